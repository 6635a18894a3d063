//! Set-up, build, demo, tests and CI.
fn main() {}
