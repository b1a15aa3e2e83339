//! What keys do: the state of the screen, and how each key changes it. Nothing here draws or waits.

use super::grid::{Grid, Sort, Tab, columns};
use super::model::Figures;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The longest filter that can be typed.
const FILTER_CHARS_MAX: usize = 64;

/// What the body of the screen is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Table,
    /// Letters go to the filter.
    Filter,
    /// All that is known of the selected row.
    Details,
    Help,
}

/// What one table remembers while another is looked at.
#[derive(Clone, Debug)]
struct Place {
    sort: Sort,
    /// The key of the selected row, so that it stays selected wherever it moves to.
    selected: Option<String>,
    /// Where it was when it was last seen.
    index: usize,
}

/// All that the screen depends on beside the figures.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    pub(crate) tab: Tab,
    pub(crate) mode: Mode,
    pub(crate) filter: String,
    pub(crate) is_paused: bool,
    pub(crate) is_over: bool,
    /// The first line of details or help that is shown.
    pub(crate) scroll: u16,
    /// How many rows fit on the screen, as it was last drawn.
    pub(crate) page: usize,
    places: [Place; 5],
}

impl Ui {
    pub(crate) fn new() -> Self {
        Self {
            tab: Tab::Processors,
            mode: Mode::Table,
            filter: String::new(),
            is_paused: false,
            is_over: false,
            scroll: 0,
            page: 10,
            places: Tab::ALL.map(|tab| Place {
                sort: Sort {
                    column: tab.first_sort(),
                    is_reversed: false,
                },
                selected: None,
                index: 0,
            }),
        }
    }

    fn place(&self) -> &Place {
        &self.places[self.tab as usize]
    }

    fn place_mut(&mut self) -> &mut Place {
        &mut self.places[self.tab as usize]
    }

    pub(crate) fn sort(&self) -> Sort {
        self.place().sort
    }

    /// The table that is looked at, and which of its rows is selected.
    ///
    /// A selected row that has gone leaves its place to the one that stands there now.
    pub(crate) fn grid(&mut self, figures: &Figures) -> (Grid, usize) {
        let grid = Grid::new(figures, self.tab, self.sort(), &self.filter);
        let place = self.place_mut();
        let found = place
            .selected
            .as_ref()
            .and_then(|key| grid.rows.iter().position(|row| row.key == *key));
        place.index = match found {
            Some(index) => index,
            None => place.index.min(grid.rows.len().saturating_sub(1)),
        };
        (grid, place.index)
    }

    /// The key of the selected row.
    pub(crate) fn selected(&mut self, figures: &Figures) -> Option<String> {
        let (mut grid, index) = self.grid(figures);
        (index < grid.rows.len()).then(|| grid.rows.swap_remove(index).key)
    }

    /// Does what this key stands for. Others do nothing.
    pub(crate) fn press(&mut self, key: KeyEvent, figures: &Figures) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            if matches!(key.code, KeyCode::Char('c' | 'C')) {
                self.is_over = true;
            }
            return;
        }
        match self.mode {
            Mode::Filter => self.press_in_filter(key.code),
            Mode::Details | Mode::Help => self.press_in_text(key.code),
            Mode::Table => self.press_in_table(key.code, figures),
        }
    }

    fn press_in_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c)
                if !c.is_control() && self.filter.chars().count() < FILTER_CHARS_MAX =>
            {
                self.filter.push(c);
            }
            _ => {}
        }
    }

    fn press_in_text(&mut self, key: KeyCode) {
        match key {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | '?') => {
                self.mode = Mode::Table;
                self.scroll = 0;
            }
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(self.page_lines()),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page_lines()),
            KeyCode::Home => self.scroll = 0,
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            _ => {}
        }
    }

    fn page_lines(&self) -> u16 {
        u16::try_from(self.page.max(1)).unwrap_or(u16::MAX)
    }

    fn press_in_table(&mut self, key: KeyCode, figures: &Figures) {
        match key {
            KeyCode::Char('q') => self.is_over = true,
            KeyCode::Char(c @ '1'..='5') => self.tab = Tab::ALL[c as usize - '1' as usize],
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Tab::ALL.len() - 1),
            KeyCode::Char('s' | '>') => self.sort_by_next(1),
            KeyCode::Char('<') => self.sort_by_next(columns(self.tab).len() - 1),
            KeyCode::Char('r') => {
                let sort = &mut self.place_mut().sort;
                sort.is_reversed = !sort.is_reversed;
            }
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('?' | 'h') => {
                self.mode = Mode::Help;
                self.scroll = 0;
            }
            KeyCode::Enter => {
                // Details are of this row from now on, wherever it moves to.
                let selected = self.selected(figures);
                if selected.is_some() {
                    self.place_mut().selected = selected;
                    self.mode = Mode::Details;
                    self.scroll = 0;
                }
            }
            KeyCode::Down | KeyCode::Char('j') => self.select(figures, |at, _| at + 1),
            KeyCode::Up | KeyCode::Char('k') => self.select(figures, |at, _| at.saturating_sub(1)),
            KeyCode::PageDown => self.select(figures, |at, page| at + page),
            KeyCode::PageUp => self.select(figures, |at, page| at.saturating_sub(page)),
            KeyCode::Home | KeyCode::Char('g') => self.select(figures, |_, _| 0),
            KeyCode::End | KeyCode::Char('G') => self.select(figures, |_, _| usize::MAX),
            _ => {}
        }
    }

    fn turn(&mut self, by: usize) {
        self.tab = Tab::ALL[(self.tab as usize + by) % Tab::ALL.len()];
    }

    fn sort_by_next(&mut self, by: usize) {
        let count = columns(self.tab).len();
        let sort = &mut self.place_mut().sort;
        sort.column = (sort.column + by) % count;
        sort.is_reversed = false;
    }

    fn select(&mut self, figures: &Figures, to: impl Fn(usize, usize) -> usize) {
        let page = self.page.max(1);
        let (grid, index) = self.grid(figures);
        let index = to(index, page).min(grid.rows.len().saturating_sub(1));
        let place = self.place_mut();
        place.index = index;
        place.selected = grid.rows.get(index).map(|row| row.key.clone());
    }
}
