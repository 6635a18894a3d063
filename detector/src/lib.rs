//! Plainsight's user-space half.
