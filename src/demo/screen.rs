//! How the demo speaks: headings, explanations, results and small tables, in colour where there is some.

use std::io::Write;

const DIM: &str = "2";
const BOLD: &str = "1";
const GREEN: &str = "1;32";
const YELLOW: &str = "1;33";
const CYAN: &str = "1;36";

/// Where the demo is told. A reader who has seen enough does not end it: its exit code says how it went.
pub(super) struct Screen<'a> {
    out: &'a mut dyn Write,
    colour: bool,
}

impl std::fmt::Debug for Screen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("colour", &self.colour).finish_non_exhaustive()
    }
}

impl<'a> Screen<'a> {
    pub(super) fn new(out: &'a mut dyn Write, colour: bool) -> Self {
        Self { out, colour }
    }

    /// A numbered part of the story, and what it is about in two lines.
    pub(super) fn chapter(&mut self, number: u32, title: &str, about: [&str; 2]) {
        let title = self.paint(CYAN, &format!("{number}  {title}"));
        self.line(&format!("\n{title}"));
        about.iter().for_each(|line| self.line(&format!("   {line}")));
    }

    /// A heading without a number.
    pub(super) fn heading(&mut self, title: &str) {
        let title = self.paint(BOLD, title);
        self.line(&format!("\n{title}"));
    }

    /// A name and what stands for it.
    pub(super) fn fact(&mut self, name: &str, text: &str) {
        let name = self.paint(DIM, &format!("{name:10}"));
        self.line(&format!("   {name} {text}"));
    }

    /// What a command did.
    pub(super) fn done(&mut self, command: &str, result: &str, took: &str) {
        let (command, took, mark) = (self.paint(DIM, &format!("{command:14}")), self.paint(DIM, took), self.paint(GREEN, "✓"));
        self.line(&format!("   {mark} {command} {result}  {took}"));
    }

    /// What a command did not come to do.
    pub(super) fn killed(&mut self, command: &str, result: &str) {
        let (command, mark) = (self.paint(DIM, &format!("{command:14}")), self.paint(YELLOW, "✗"));
        self.line(&format!("   {mark} {command} {result}"));
    }

    /// What was found after it.
    pub(super) fn found(&mut self, text: &str) {
        self.line(&format!("     {:14} {text}", ""));
    }

    /// The sentence that the demo is for.
    pub(super) fn proof(&mut self, text: &str) {
        let text = self.paint(GREEN, text);
        self.line(&format!("\n{text}"));
    }

    /// An aligned table: numbers to the right, text to the left.
    pub(super) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        for (n, line) in aligned(head, rows).iter().enumerate() {
            let line = if n == 0 { self.paint(DIM, line) } else { line.clone() };
            self.line(&format!("   {line}"));
        }
    }

    /// One line.
    pub(super) fn line(&mut self, text: &str) {
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).ok();
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn aligned(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let width = |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let right = |column: usize| rows.iter().all(|row| row[column].chars().all(|c| c.is_ascii_digit() || c == ','));
    let rights: Vec<bool> = (0..head.len()).map(right).collect();
    let cell = |(column, text): (usize, &String)| {
        let width = widths[column];
        if rights[column] { format!("{text:>width$}") } else { format!("{text:width$}") }
    };
    let line = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned();
    [&head].into_iter().chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_text_to_the_left() {
        let rows = [["a-1", "Élan", "9"], ["b", "Tide gate", "1,024"]].map(|row| row.map(str::to_owned).to_vec());
        let lines = aligned(&["id", "title", "rows"], &rows);
        assert_eq!(lines, ["id   title       rows", "a-1  Élan           9", "b    Tide gate  1,024"]);
        assert_eq!(aligned(&["id"], &[]), ["id"]);
    }

    #[test]
    fn colour_is_only_where_it_was_asked_for() {
        let told = |colour| {
            let mut out = Vec::new();
            Screen::new(&mut out, colour).done("run", "5 read", "3 ms");
            String::from_utf8(out).unwrap()
        };
        assert_eq!(told(false), "   ✓ run            5 read  3 ms\n");
        assert!(told(true).contains("\x1b["));
    }
}
