//! Tables for a terminal.

use txnscope_catalog::escape_line;

/// Aligns rows of equal length, the first of which is the header. Cells may hold text of servers and of documents, so
/// characters that could control the terminal are escaped.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let plain = |cell: &String| escape_line(cell).into_owned();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(plain).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["A".to_owned(), "B".to_owned()], vec!["long".to_owned(), "x".to_owned()]];
        assert_eq!(table(&rows), "A     B\nlong  x\n");
    }

    #[test]
    fn control_characters_in_cells_are_escaped() {
        let cells = ["a\u{1b}[2J\n\u{202e}b".to_owned(), "c".to_owned()];
        assert_eq!(table(&[cells.to_vec()]), "a\\u001b[2J\\n\\u202eb  c\n");
    }
}
