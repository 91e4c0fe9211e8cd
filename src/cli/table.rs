//! Columns for `list`, `status` and their like.

use std::io::Write;

use tabwriter::TabWriter;

use crate::pod::progress::printable;

/// Rows with their columns aligned, three spaces or more apart, as kubectl and runc print them.
///
/// Cells are shown as one line of text: what would act on the terminal, or break the table, is left out.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut tabs = TabWriter::new(Vec::new()).minwidth(0).padding(3);
    let rows = rows.into_iter().map(|row| row.map(|cell| printable(&cell)));
    for row in std::iter::once(header.map(String::from)).chain(rows) {
        // Writing to memory does not fail.
        let _ = writeln!(tabs, "{}", row.join("\t"));
    }
    let _ = tabs.flush();
    let aligned = tabs.into_inner().unwrap_or_default();
    let aligned = String::from_utf8_lossy(&aligned);
    aligned
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["long-name", "", "x"], ["ü", "1/2", ""]].map(|row| row.map(String::from));
        assert_eq!(
            table(["NAME", "READY", "STATUS"], rows),
            "NAME        READY   STATUS\n\
             long-name           x\n\
             ü           1/2\n"
        );
    }

    #[test]
    fn a_cell_cannot_break_the_table() {
        let rows = [["a\tb\nc\u{1b}[2J", "d"]].map(|row| row.map(String::from));
        assert_eq!(table(["A", "B"], rows), "A      B\na bc   d\n");
    }

    #[test]
    fn no_rows_are_a_header() {
        assert_eq!(table(["A", "B"], []), "A   B\n");
    }
}
