//! Tables.

use super::safe;
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement};
use std::fmt;

/// Columns under bold titles, without lines. Numbers stand to the right.
#[derive(Debug)]
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A title that begins with `>` is that of a column of numbers.
    pub(crate) fn new(titles: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING);
        // Cut at no width: a pipe has none, and a terminal wraps.
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(
            titles.iter().map(|title| {
                Cell::new(title.trim_start_matches('>')).add_attribute(Attribute::Bold)
            }),
        );
        for (at, title) in titles.iter().enumerate() {
            let Some(column) = table.column_mut(at) else {
                continue;
            };
            column.set_padding((0, 2));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// What a terminal would obey is written out.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0
            .add_row(cells.into_iter().map(|cell| safe(&cell).into_owned()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Table {
    /// Lines without spaces at their ends, each with its line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
