//! A minute of what `cargo xtask soak` does for longer.

use std::time::Duration;

use detector_tests::{daemon, netns, soak};

#[test]
fn through_churn_of_pods_and_failures_of_the_api_the_books_add_up_and_memory_stays_flat() {
    if !netns::require_root() {
        return;
    }
    let last =
        soak::run(&daemon::binary().unwrap(), Duration::from_secs(60), |sample| println!("{sample:?}"))
            .unwrap();
    assert!(last.made > 100 && last.pods > 3, "{last:?}");
}
