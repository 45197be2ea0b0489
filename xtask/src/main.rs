//! The project's own commands.

fn main() -> std::io::Result<()> {
    std::fs::write("docs/metrics.md", txnscope_catalog::markdown())
}
