//! The project's own commands.
fn main() {
    std::fs::write("docs/metrics.md", txnscope_catalog::markdown()).unwrap();
}
