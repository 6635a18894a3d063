//! The command `plainsight`.

fn main() {}
