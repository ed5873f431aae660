//! metastore
fn main() {}
