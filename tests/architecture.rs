//! The house rules that a machine can check.

#[test]
fn nothing_is_checked_yet_by_syn() {
    assert!(syn::parse_file(include_str!("../src/lib.rs")).is_ok());
}
