//! What is shown: a table redrawn in place on a terminal, one plain line at a time elsewhere, and the summary at the end.
//!
//! Everything is made as text first and written in one place, [`Screen`]. Whether the output is a terminal is said once, by
//! the program; no escape sequence and no colour is written when it is not.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Write},
    time::Duration,
};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};
use crossterm::{
    QueueableCommand, cursor,
    terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate},
};

use crate::{
    alarms::{AlarmChange, AlarmEvent},
    meter::Summary,
    metric::{Metric, MetricKind, Unit},
};

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u16,
    pub(crate) height: u16,
}

impl Size {
    pub(crate) fn of_terminal() -> Self {
        Self::reported(crossterm::terminal::size().ok())
    }

    /// Takes 80 by 24 for what is not known. A terminal that nobody has told its size, such as one made by `script` or by a
    /// container, says that it is 0 by 0.
    fn reported(size: Option<(u16, u16)>) -> Self {
        let (width, height) = size.unwrap_or_default();
        let or = |known: u16, usual| if known == 0 { usual } else { known };
        Self {
            width: or(width, 80),
            height: or(height, 24),
        }
    }
}

/// How one `WhenFull` policy has treated its slow subscriber so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PolicyRow {
    pub(crate) policy: String,
    /// Samples published to it.
    pub(crate) offered: u64,
    pub(crate) handled: u64,
    /// Samples that were queued, or should have been, and then were not handled.
    pub(crate) dropped: u64,
    /// Samples whose publisher was told that there was no room.
    pub(crate) refused: u64,
    /// Samples that the subscriber was told it missed.
    pub(crate) gap: u64,
    pub(crate) queued: u64,
    /// What else there is to say, such as that the subscription was closed.
    pub(crate) note: String,
}

/// All that the live table shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) elapsed: Duration,
    /// Where the figures come from.
    pub(crate) source: String,
    pub(crate) summaries: Vec<Summary>,
    pub(crate) policies: Vec<PolicyRow>,
    /// Alarms that are raised now, with the event that raised them.
    raised: BTreeMap<Metric, AlarmEvent>,
    /// The last few events.
    recent: VecDeque<AlarmEvent>,
    trouble: Option<(Duration, String)>,
    troubles: u64,
    pub(crate) went_back: u64,
}

const RECENT_MAX: usize = 3;

impl View {
    pub(crate) fn new(source: String) -> Self {
        Self {
            source,
            ..Self::default()
        }
    }

    pub(crate) fn alarm(&mut self, event: &AlarmEvent) {
        match event.change {
            AlarmChange::Raised { .. } => {
                self.raised.insert(event.metric.clone(), event.clone());
            }
            AlarmChange::Cleared { .. } | AlarmChange::Gone => {
                self.raised.remove(&event.metric);
            }
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(event.clone());
    }

    /// Notes an error, and says whether its text is a new one: the same file fails 50 times a second, and once is enough to read.
    pub(crate) fn trouble(&mut self, at: Duration, text: &str) -> bool {
        let new = self.trouble.as_ref().is_none_or(|(_, last)| last != text);
        self.trouble = Some((at, text.to_owned()));
        self.troubles = self.troubles.saturating_add(1);
        new
    }

    pub(crate) fn troubles(&self) -> u64 {
        self.troubles
    }

    /// One line that holds what matters most: of each kind the largest value.
    pub(crate) fn line(&self) -> String {
        const KINDS: [MetricKind; 7] = [
            MetricKind::Cpu,
            MetricKind::Memory,
            MetricKind::NetReceived,
            MetricKind::NetSent,
            MetricKind::DiskRead,
            MetricKind::DiskWritten,
            MetricKind::ProcessCpu,
        ];
        let mut line = format!("{:7.1} s", self.elapsed.as_secs_f64());
        for kind in KINDS {
            let of_kind = self.summaries.iter().filter(|s| s.metric.kind() == kind);
            let largest = of_kind.max_by(|a, b| a.percentiles.last.total_cmp(&b.percentiles.last));
            if let Some(Summary {
                metric,
                percentiles,
            }) = largest
            {
                let unit = metric.unit();
                line.push_str(&format!(
                    " | {} {} (p95 {})",
                    clean(&metric.to_string()),
                    figure(percentiles.last, unit),
                    figure(percentiles.p95, unit)
                ));
            }
        }
        line.push_str(&format!(" | alarms {}", self.raised.len()));
        if self.troubles > 0 {
            line.push_str(&format!(" | errors {}", self.troubles));
        }
        line
    }

    /// The whole picture, at most `size.height - 1` lines, so that the cursor's own line does not scroll it.
    pub(crate) fn page(&self, size: Size, colour: bool) -> String {
        let mut below: Vec<String> = Vec::new();
        for event in &self.recent {
            below.push(cut(&alarm_line(event), size.width));
        }
        if let Some((at, text)) = &self.trouble {
            let at = at.as_secs_f64();
            let text = format!(
                "{} readings failed, the last at {at:.1} s: {}",
                self.troubles,
                clean(text)
            );
            below.push(cut(&text, size.width));
        }
        if self.went_back > 0 {
            below.push(cut(
                &format!("{} counters went backwards", self.went_back),
                size.width,
            ));
        }
        let policies = match self.policies.as_slice() {
            [] => Vec::new(),
            rows => lines(&policy_table(rows, Some(size.width), colour)),
        };
        let seconds = self.elapsed.as_secs_f64();
        let title = format!(
            "vitals: {seconds:.1} s, figures from {}; Ctrl-C ends",
            clean(&self.source)
        );
        let mut page = vec![cut(&title, size.width)];
        let height = usize::from(size.height).saturating_sub(1);
        let room = height.saturating_sub(page.len() + below.len() + policies.len());
        page.extend(self.rate_table(room, size.width, colour));
        page.extend(below);
        page.extend(policies);
        page.truncate(height.max(1));
        page.join("\n")
    }

    /// The table of rates in at most `room` lines.
    fn rate_table(&self, room: usize, width: u16, colour: bool) -> Vec<String> {
        // Three borders, the headings, and the line that says what is not shown.
        const AROUND: usize = 5;
        let idle = |summary: &&Summary| {
            // Machines have many things that never do anything: loop0 to loop7, ifb0, swap that does not exist.
            let always = matches!(
                summary.metric.kind(),
                MetricKind::Cpu | MetricKind::Memory | MetricKind::Core
            );
            !always && summary.percentiles.max == 0.0
        };
        let (hidden, shown): (Vec<_>, Vec<_>) = self.summaries.iter().partition(idle);
        let rows = room.saturating_sub(AROUND);
        if rows == 0 {
            return Vec::new();
        }
        let mut table = table(Some(width), colour);
        table.set_header(["what", "now", "p50", "p95", "p99", "max", "alarm"]);
        for summary in shown.iter().take(rows) {
            let Percentages {
                last,
                p50,
                p95,
                p99,
                max,
            } = Percentages::of(summary);
            let mut now = right(&last);
            let mut alarm = Cell::new("");
            if self.raised.contains_key(&summary.metric) {
                now = now.fg(Color::Red).add_attribute(Attribute::Bold);
                alarm = Cell::new("RAISED").fg(Color::Red);
            }
            let mut row = Row::from([
                Cell::new(clean(&summary.metric.to_string())),
                now,
                right(&p50),
                right(&p95),
                right(&p99),
                right(&max),
                alarm,
            ]);
            // A name that does not fit is cut: with rows of two lines nobody could say how many rows there is room for.
            row.max_height(1);
            table.add_row(row);
        }
        let mut page = lines(&table);
        let mut left_out = Vec::new();
        if shown.len() > rows {
            let more = shown.len() - rows;
            left_out.push(format!("{more} more in a taller window"));
        }
        if !hidden.is_empty() {
            left_out.push(format!("{} that are 0 not shown", hidden.len()));
        }
        if !left_out.is_empty() {
            page.push(cut(&left_out.join(", "), width));
        }
        // In a very narrow window the headings take more than a line.
        page.truncate(room);
        page
    }
}

/// The cells of one row.
struct Percentages {
    last: String,
    p50: String,
    p95: String,
    p99: String,
    max: String,
}

impl Percentages {
    fn of(summary: &Summary) -> Self {
        let unit = summary.metric.unit();
        let percentiles = &summary.percentiles;
        Self {
            last: figure(percentiles.last, unit),
            p50: figure(percentiles.p50, unit),
            p95: figure(percentiles.p95, unit),
            p99: figure(percentiles.p99, unit),
            max: figure(percentiles.max, unit),
        }
    }
}

/// One line about an alarm.
pub(crate) fn alarm_line(event: &AlarmEvent) -> String {
    let seconds = event.at.as_secs_f64();
    let metric = clean(&event.metric.to_string());
    let unit = event.metric.unit();
    let what = match event.change {
        AlarmChange::Raised { value, limit } => format!(
            "raised: {metric} is {}, at or above {}",
            figure(value, unit),
            figure(limit, unit)
        ),
        AlarmChange::Cleared { value, limit } => format!(
            "cleared: {metric} is {}, at or below {}",
            figure(value, unit),
            figure(limit, unit)
        ),
        AlarmChange::Gone => format!("cleared: {metric} gives no more values"),
    };
    format!("{seconds:7.1} s alarm {what}")
}

/// One row for each policy.
pub(crate) fn policy_table(rows: &[PolicyRow], width: Option<u16>, colour: bool) -> Table {
    let mut table = table(width, colour);
    table.set_header([
        "slow subscriber",
        "offered",
        "handled",
        "dropped",
        "refused",
        "gap",
        "queued",
        "",
    ]);
    for row in rows {
        table.add_row([
            Cell::new(clean(&row.policy)),
            right(&row.offered.to_string()),
            right(&row.handled.to_string()),
            right(&row.dropped.to_string()),
            right(&row.refused.to_string()),
            right(&row.gap.to_string()),
            right(&row.queued.to_string()),
            Cell::new(clean(&row.note)),
        ]);
    }
    table
}

/// What became of everything sent to one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) sent: u64,
    pub(crate) handled: u64,
    /// By cause. What was refused is here too, under its own cause.
    pub(crate) dropped: Vec<(String, u64)>,
    pub(crate) left: u64,
}

impl Account {
    fn accounted_for(&self) -> Option<u64> {
        let dropped = self.dropped.iter().map(|(_, count)| *count);
        [self.handled, self.left]
            .into_iter()
            .chain(dropped)
            .try_fold(0, u64::checked_add)
    }

    /// Says whether sent = handled + dropped + left, exactly. A sum too large to count does not hold.
    pub(crate) fn holds(&self) -> bool {
        self.accounted_for() == Some(self.sent)
    }
}

/// One row for each receiver, the check computed.
pub(crate) fn account_table(accounts: &[Account], width: Option<u16>, colour: bool) -> Table {
    let mut table = table(width, colour);
    table.set_header([
        "to", "sent", "handled", "dropped", "left", "by cause", "check",
    ]);
    for account in accounts {
        let causes = account.dropped.iter().filter(|(_, count)| *count > 0);
        let causes: Vec<String> = causes
            .map(|(cause, count)| format!("{} {count}", clean(cause)))
            .collect();
        let dropped: u128 = account.dropped.iter().map(|(_, n)| u128::from(*n)).sum();
        let check = if account.holds() {
            Cell::new("holds")
        } else {
            Cell::new("DOES NOT HOLD").fg(Color::Red)
        };
        table.add_row([
            Cell::new(clean(&account.name)),
            right(&account.sent.to_string()),
            right(&account.handled.to_string()),
            right(&dropped.to_string()),
            right(&account.left.to_string()),
            Cell::new(causes.join(", ")),
            check,
        ]);
    }
    table
}

/// The last line: the sums, and whether every account holds. The sums alone would hide two errors that cancel out.
pub(crate) fn verdict(accounts: &[Account]) -> (bool, String) {
    let total =
        |of: fn(&Account) -> u64| -> u128 { accounts.iter().map(|a| u128::from(of(a))).sum() };
    let dropped: u128 = accounts
        .iter()
        .flat_map(|account| &account.dropped)
        .map(|(_, count)| u128::from(*count))
        .sum();
    let wrong: Vec<&str> = accounts
        .iter()
        .filter(|account| !account.holds())
        .map(|account| account.name.as_str())
        .collect();
    let sums = format!(
        "sent {} = handled {} + dropped {dropped} + left {}",
        total(|account| account.sent),
        total(|account| account.handled),
        total(|account| account.left)
    );
    if wrong.is_empty() {
        let text = format!("{sums}: holds for all {} receivers", accounts.len());
        (true, text)
    } else {
        let text = format!("{sums}: DOES NOT HOLD for {}", wrong.join(", "));
        (false, text)
    }
}

fn table(width: Option<u16>, colour: bool) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    // The table would ask about stdout itself; the program has decided already, also for tests.
    if colour {
        table
            .load_preset(presets::UTF8_FULL_CONDENSED)
            .enforce_styling();
    } else {
        table
            .load_preset(presets::ASCII_FULL_CONDENSED)
            .force_no_tty();
    }
    table
}

fn lines(table: &Table) -> Vec<String> {
    table.lines().collect()
}

fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Names come from other programs and may hold anything, also sequences that reprogram a terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

/// Cuts a line so that it does not wrap. Wide letters count as one; a wrapped line costs a flicker, not an error.
fn cut(text: &str, width: u16) -> String {
    text.chars().take(usize::from(width)).collect()
}

fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent => format!("{value:.1}%"),
        Unit::Bytes => bytes(value),
        Unit::BytesPerSecond => format!("{}/s", bytes(value)),
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if value < 1023.5 {
        return format!("{value:.0} B");
    }
    let mut value = value / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 {
        let Some(larger) = units.next() else { break };
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// Where the text goes.
pub(crate) struct Screen<W: Write> {
    out: W,
    /// How many lines the last page took, and how large the terminal was: what is to be drawn over.
    drawn: Option<(usize, Size)>,
}

impl<W: Write> Screen<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, drawn: None }
    }

    /// Draws a page over the one before.
    ///
    /// Not on the alternate screen: a program that is killed would leave the terminal there, and the last page is worth keeping.
    pub(crate) fn draw(&mut self, view: &View, size: Size) -> io::Result<()> {
        self.out.queue(BeginSynchronizedUpdate)?;
        match self.drawn {
            Some((lines, before)) if before == size => {
                let lines = u16::try_from(lines).unwrap_or(u16::MAX);
                self.out.queue(cursor::MoveToPreviousLine(lines))?;
            }
            // Lines of another width have wrapped, so nobody knows how many there are.
            Some(_) => {
                self.out.queue(Clear(ClearType::All))?;
                self.out.queue(cursor::MoveTo(0, 0))?;
            }
            None => {}
        }
        let page = view.page(size, true);
        for line in page.lines() {
            self.out.write_all(line.as_bytes())?;
            self.out.queue(Clear(ClearType::UntilNewLine))?;
            self.out.write_all(b"\n")?;
        }
        self.out.queue(Clear(ClearType::FromCursorDown))?;
        self.out.queue(EndSynchronizedUpdate)?;
        self.drawn = Some((page.lines().count(), size));
        self.out.flush()
    }

    /// Writes lines that stay.
    pub(crate) fn print(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        // What is drawn later must not go over them.
        self.drawn = None;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Percentiles;

    const SIZE: Size = Size {
        width: 100,
        height: 40,
    };

    fn summary(metric: Metric, last: f64) -> Summary {
        Summary {
            metric,
            percentiles: Percentiles {
                count: 1,
                last,
                p50: last,
                p95: last,
                p99: last,
                max: last,
            },
        }
    }

    fn view() -> View {
        View {
            elapsed: Duration::from_millis(2500),
            source: "/proc".to_owned(),
            summaries: vec![
                summary(Metric::Cpu, 12.34),
                summary(
                    Metric::NetReceived {
                        interface: "eth0".to_owned(),
                    },
                    2048.0,
                ),
                summary(
                    Metric::NetSent {
                        interface: "ifb0".to_owned(),
                    },
                    0.0,
                ),
            ],
            policies: vec![PolicyRow {
                policy: "DropOldest".to_owned(),
                offered: 100,
                handled: 10,
                dropped: 86,
                refused: 0,
                gap: 86,
                queued: 4,
                note: String::new(),
            }],
            ..View::default()
        }
    }

    fn raised() -> AlarmEvent {
        AlarmEvent {
            at: Duration::from_secs(1),
            metric: Metric::Cpu,
            change: AlarmChange::Raised {
                value: 12.34,
                limit: 10.0,
            },
        }
    }

    #[test]
    fn a_page_shows_rates_policies_alarms_and_errors() {
        let mut view = view();
        view.alarm(&raised());
        assert!(view.trouble(Duration::from_secs(2), "cannot read x"));
        assert!(!view.trouble(Duration::from_secs(2), "cannot read x"));
        let page = view.page(SIZE, false);
        let row = |start: &str| -> Vec<String> {
            let line = page
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_else(|| panic!("no {start:?} in\n{page}"));
            let cells = line.split('|').map(|cell| cell.trim().to_owned());
            cells.filter(|cell| !cell.is_empty()).collect()
        };
        assert_eq!(
            row("| cpu "),
            ["cpu", "12.3%", "12.3%", "12.3%", "12.3%", "12.3%", "RAISED"]
        );
        assert_eq!(row("| net eth0 received ")[1], "2.0 KiB/s");
        assert_eq!(
            row("| DropOldest "),
            ["DropOldest", "100", "10", "86", "0", "86", "4"]
        );
        assert!(page.contains("1 that are 0 not shown"));
        assert!(page.contains("    1.0 s alarm raised: cpu is 12.3%, at or above 10.0%"));
        assert!(page.contains("2 readings failed, the last at 2.0 s: cannot read x"));
    }

    #[test]
    fn a_cleared_alarm_is_not_shown_as_raised() {
        let mut view = view();
        view.alarm(&raised());
        view.alarm(&AlarmEvent {
            change: AlarmChange::Gone,
            ..raised()
        });
        assert!(!view.page(SIZE, false).contains("RAISED"));
        assert!(view.line().ends_with("| alarms 0"), "{}", view.line());
    }

    #[test]
    fn a_page_fits_any_window() {
        let mut view = view();
        view.summaries = (0..200)
            .map(|index| summary(Metric::Core { index }, 1.0))
            .collect();
        view.alarm(&raised());
        view.trouble(Duration::ZERO, &"long ".repeat(100));
        for height in 0..60 {
            for width in [0, 1, 10, 79, 200] {
                let page = view.page(Size { width, height }, false);
                let limit = usize::from(height).saturating_sub(1).max(1);
                assert!(page.lines().count() <= limit, "{width}x{height}:\n{page}");
            }
        }
        let page = view.page(SIZE, false);
        assert!(page.contains(" more in a taller window"), "{page}");
    }

    #[test]
    fn a_terminal_that_does_not_know_its_size_is_taken_for_80_by_24() {
        let reported = |size| {
            let Size { width, height } = Size::reported(size);
            (width, height)
        };
        assert_eq!(reported(None), (80, 24));
        assert_eq!(reported(Some((0, 0))), (80, 24));
        assert_eq!(reported(Some((132, 0))), (132, 24));
        assert_eq!(reported(Some((132, 43))), (132, 43));
    }

    #[test]
    fn without_colour_there_is_no_escape_sequence_and_with_it_there_is() {
        let mut view = view();
        view.alarm(&raised());
        view.summaries.push(summary(
            Metric::ProcessCpu {
                pid: 7,
                comm: "\u{1b}[2J\r\n".to_owned(),
            },
            1.0,
        ));
        assert!(!view.page(SIZE, false).contains('\u{1b}'));
        assert!(!view.line().contains('\u{1b}'));
        let colour = view.page(SIZE, true);
        assert!(colour.contains("\u{1b}["));
        assert!(!colour.contains("\u{1b}[2J"));
    }

    #[test]
    fn a_second_page_is_drawn_over_the_first_and_printed_lines_stay() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out);
        let view = view();
        let lines = view.page(SIZE, true).lines().count();
        screen.draw(&view, SIZE).unwrap();
        screen.draw(&view, SIZE).unwrap();
        screen.print("stays").unwrap();
        screen.draw(&view, SIZE).unwrap();
        let narrow = Size { width: 50, ..SIZE };
        screen.draw(&view, narrow).unwrap();
        let text = String::from_utf8(out).unwrap();
        let up = format!("\u{1b}[{lines}F");
        assert_eq!(text.matches(&up).count(), 1, "{text:?}");
        assert_eq!(text.matches("\u{1b}[2J").count(), 1, "{text:?}");
    }

    #[test]
    fn a_plain_line_names_the_largest_of_each_kind() {
        let mut view = view();
        view.summaries.push(summary(
            Metric::NetReceived {
                interface: "wlan0".to_owned(),
            },
            5.0 * 1024.0 * 1024.0,
        ));
        assert_eq!(
            view.line(),
            "    2.5 s | cpu 12.3% (p95 12.3%) | net wlan0 received 5.0 MiB/s (p95 5.0 MiB/s) \
             | net ifb0 sent 0 B/s (p95 0 B/s) | alarms 0"
        );
    }

    #[test]
    fn bytes_are_short() {
        let shown = [
            0.0, 1023.0, 1024.0, 1536.0, 1048575.0, 1048576.0, 1e12, 1e300,
        ]
        .map(bytes);
        assert_eq!(
            shown[..7],
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "1.0 MiB",
                "1.0 MiB",
                "931.3 GiB"
            ]
        );
        assert!(shown[7].ends_with(" PiB"));
    }

    fn account(sent: u64, handled: u64, dropped: u64, left: u64) -> Account {
        Account {
            name: "display".to_owned(),
            sent,
            handled,
            dropped: vec![
                ("DropOldest".to_owned(), dropped),
                ("refused".to_owned(), 0),
            ],
            left,
        }
    }

    #[test]
    fn the_verdict_is_computed_for_each_receiver() {
        let good = account(10, 5, 3, 2);
        assert!(good.holds());
        let (holds, text) = verdict(&[good.clone(), good.clone()]);
        assert!(holds);
        assert_eq!(
            text,
            "sent 20 = handled 10 + dropped 6 + left 4: holds for all 2 receivers"
        );
        // Two errors that cancel out.
        let (holds, text) = verdict(&[account(10, 5, 3, 1), account(10, 5, 3, 3)]);
        assert!(!holds);
        assert!(
            text.ends_with("DOES NOT HOLD for display, display"),
            "{text}"
        );
        // A sum that wraps around to what was sent.
        assert!(!account(1, u64::MAX, 2, 0).holds());
        let table = account_table(&[good, account(10, 5, 3, 1)], Some(100), false).to_string();
        assert!(table.contains("DropOldest 3"), "{table}");
        assert!(!table.contains("refused"), "{table}");
        assert!(
            table.contains("holds") && table.contains("DOES NOT HOLD"),
            "{table}"
        );
    }
}
