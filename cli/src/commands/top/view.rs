//! How the screen looks. It depends on the figures and on [`Ui`], and on nothing else.

use super::grid::{Column, Grid, Level, Row, Tab, details};
use super::keys::{Mode, Ui};
use super::model::Figures;
use super::text::ascii;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

const HELP: [&str; 18] = [
    "1..5, Tab, arrows    another table",
    "up, down, j, k       select a row; also PgUp, PgDn, Home, End",
    "Enter                all that is known of the selected row",
    "s, >, <              sort by the next, or the previous, column",
    "r                    turn the order round",
    "/ text Enter         show rows with this text only; Esc: all",
    "space                hold the screen, go on",
    "q, Ctrl-C            quit; in details and help, q goes back",
    "",
    "LOAD       share of one core that handlers take",
    "QUEUE      what waits, and the places there are",
    "HIGH       the most that ever waited",
    "LONGEST    the longest handler ever, or the one that runs",
    "DROPS      messages or samples that were dropped, of all time",
    "HELD       for how long the oldest lease is held",
    "BLOCKED    threads of a pool that are blocked in a handler",
    "EXHAUSTED  how often no spare thread was left",
    "-          not known yet, or not there",
];

/// What the terminal can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) has_colour: bool,
    pub(crate) has_utf8: bool,
}

impl Look {
    fn level(self, level: Level) -> Style {
        let style = Style::new();
        match (self.has_colour, level) {
            (_, Level::Plain) => style,
            (true, Level::Warning) => style.fg(Color::Yellow),
            (true, Level::Problem) => style.fg(Color::Red),
            (false, Level::Warning | Level::Problem) => style.add_modifier(Modifier::BOLD),
        }
    }

    fn fit(self, text: &str) -> String {
        match self.has_utf8 {
            true => super::text::shown(text).into_owned(),
            false => ascii(text),
        }
    }
}

/// Draws all of it. `trouble` is why there is no new survey, if there is none.
pub(crate) fn draw(
    frame: &mut Frame<'_>,
    figures: &Figures,
    ui: &mut Ui,
    look: Look,
    interval_s: f64,
    trouble: Option<&str>,
) {
    let [title, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let title_text = look.fit(&title_line(figures, ui, interval_s));
    frame.render_widget(Paragraph::new(title_text), title);
    frame.render_widget(Paragraph::new(tab_line(ui, look)), tabs);
    match ui.mode {
        Mode::Help => draw_text(frame, body, ui, HELP.map(str::to_owned).to_vec()),
        Mode::Details => {
            let lines = match ui.selected(figures) {
                Some(key) => details(figures, ui.tab, &key),
                None => vec!["it is not there any more".to_owned()],
            };
            let lines = lines.iter().map(|line| look.fit(line)).collect();
            draw_text(frame, body, ui, lines);
        }
        Mode::Table | Mode::Filter => draw_table(frame, body, figures, ui, look),
    }
    frame.render_widget(Paragraph::new(foot_line(ui, look, trouble)), foot);
}

fn title_line(figures: &Figures, ui: &Ui, interval_s: f64) -> String {
    let mut line = String::from("mproc top");
    if ui.is_paused {
        line.push_str("  PAUSED");
    }
    line.push_str(&format!("  domain {}", figures.domain));
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let nodes = figures.nodes.len();
    line.push_str(&format!("  {nodes} node{}", plural(nodes)));
    if !figures.silent.is_empty() {
        line.push_str(&format!(", {} silent", figures.silent.len()));
    }
    // The sum of none is -0.
    let load = figures
        .processors
        .iter()
        .filter_map(|p| p.load)
        .sum::<f64>()
        + 0.0;
    line.push_str(&format!("  load {load:.2} cores  every {interval_s} s"));
    line
}

fn tab_line(ui: &Ui, look: Look) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, tab) in Tab::ALL.into_iter().enumerate() {
        let style = match tab == ui.tab {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        spans.push(Span::styled(format!("{} {}", at + 1, tab.title()), style));
        spans.push(Span::raw("  "));
    }
    if !ui.filter.is_empty() && ui.mode != Mode::Filter {
        spans.push(Span::raw(look.fit(&format!("filter: {}", ui.filter))));
    }
    Line::from(spans)
}

fn foot_line(ui: &Ui, look: Look, trouble: Option<&str>) -> Line<'static> {
    if ui.mode == Mode::Filter {
        return Line::from(look.fit(&format!("/{}_", ui.filter)));
    }
    if let Some(trouble) = trouble {
        return Line::styled(look.fit(trouble), look.level(Level::Problem));
    }
    Line::from(match ui.mode {
        Mode::Help | Mode::Details => "Esc back  up, down scroll",
        _ => "? help  / filter  s sort  r reverse  space pause  Enter details  q quit",
    })
}

fn draw_text(frame: &mut Frame<'_>, area: Rect, ui: &mut Ui, lines: Vec<String>) {
    ui.page = usize::from(area.height);
    let last = lines.len().saturating_sub(usize::from(area.height).max(1));
    ui.scroll = ui.scroll.min(u16::try_from(last).unwrap_or(u16::MAX));
    let shown = lines.into_iter().skip(usize::from(ui.scroll));
    let lines: Vec<Line<'_>> = shown
        .take(usize::from(area.height))
        .map(Line::from)
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// How wide each column is: for all rows, so that nothing jumps when one scrolls. The first is cut on narrow screens.
fn widths(grid: &Grid, look: Look, width: u16) -> Vec<usize> {
    let first_max = (usize::from(width) / 3).clamp(8, 40);
    let widths = grid.columns.iter().enumerate().map(|(at, column)| {
        let cells = grid
            .rows
            .iter()
            .map(|row| measure(&row.cells[at].text, look));
        // One more for the mark of the sorted column.
        let wide = cells
            .max()
            .unwrap_or(0)
            .max(column.width_min)
            .max(column.title.len() + 1);
        if at == 0 { wide.min(first_max) } else { wide }
    });
    widths.collect()
}

fn measure(text: &str, look: Look) -> usize {
    match look.has_utf8 {
        true => Span::raw(text).width(),
        false => text.chars().count(),
    }
}

/// `text` in exactly `width` places. What is cut ends with `~`.
fn fill(text: &str, width: usize, is_right: bool) -> String {
    let wide = Span::raw(text).width();
    if wide <= width {
        let space = " ".repeat(width - wide);
        return if is_right {
            space + text
        } else {
            text.to_owned() + &space
        };
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = Span::raw(c.to_string()).width();
        if used + next + 1 > width {
            break;
        }
        cut.push(c);
        used += next;
    }
    cut.push('~');
    // A character of two places may have left one over.
    cut.push_str(&" ".repeat(width.saturating_sub(used + 1)));
    cut
}

fn head(columns: &[Column], widths: &[usize], ui: &Ui) -> String {
    let sort = ui.sort();
    let mut line = String::new();
    for (at, (column, width)) in columns.iter().zip(widths).enumerate() {
        // Towards which end the greater stands.
        let mark = match (at == sort.column, column.is_number != sort.is_reversed) {
            (false, _) => "",
            (true, true) => "v",
            (true, false) => "^",
        };
        let title = format!("{}{mark}", column.title);
        line.push_str(&fill(&title, *width, column.is_number));
        line.push_str("  ");
    }
    line
}

fn body(row: &Row, columns: &[Column], widths: &[usize], look: Look) -> String {
    let mut line = String::new();
    for ((cell, column), width) in row.cells.iter().zip(columns).zip(widths) {
        line.push_str(&fill(&look.fit(&cell.text), *width, column.is_number));
        line.push_str("  ");
    }
    line
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, figures: &Figures, ui: &mut Ui, look: Look) {
    let (grid, selected) = ui.grid(figures);
    let room = usize::from(area.height.saturating_sub(1));
    ui.page = room.max(1);
    let widths = widths(&grid, look, area.width);
    let mut lines = vec![Line::styled(
        head(grid.columns, &widths, ui),
        Style::new().add_modifier(Modifier::BOLD),
    )];
    // As few rows as possible are scrolled away, and the selected one is seen.
    let first = (selected + 1).saturating_sub(room.max(1));
    for (at, row) in grid.rows.iter().enumerate().skip(first).take(room) {
        let mut style = look.level(row.level);
        if at == selected {
            style = style.add_modifier(Modifier::REVERSED);
        }
        lines.push(Line::styled(body(row, grid.columns, &widths, look), style));
    }
    if grid.rows.is_empty() {
        lines.push(Line::from(match ui.filter.is_empty() {
            true => "(nothing)",
            false => "(nothing with this text; Esc shows all)",
        }));
    }
    frame.render_widget(Paragraph::new(lines), area);
}
