//! Where a setting comes from: a line of a file, a variable, `--set`.
//!
//! Pure. All texts that settings are read from lie in one row of positions, so that a value and a mistake carry one number and no
//! more; what that number means is looked up when someone asks.

use std::fmt;

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the job file, from 1.
    Line(usize),
    /// A line of the catalogs file, from 1.
    Catalogs {
        /// The file, as it was named.
        file: String,
        /// The line.
        line: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// `--set`, with the key as it was given; its value may be a secret, and is never kept.
    Set(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Catalogs { file, line } => write!(f, "{file}, line {line}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Set(key) => write!(f, "--set {key}"),
        }
    }
}

/// A position in all texts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At(pub(super) usize);

/// What a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Job,
    /// With the file's name.
    Catalogs(String),
    /// With its name.
    Variable(String),
    /// With its key.
    Set(String),
}

/// The texts, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Sources {
    list: Vec<Source>,
    end: usize,
}

#[derive(Debug)]
struct Source {
    kind: Kind,
    start: usize,
    /// Positions at which its lines begin.
    lines: Vec<usize>,
}

impl Sources {
    /// Puts a text behind the others, and answers where it begins.
    pub(super) fn add(&mut self, kind: Kind, text: &str) -> At {
        let start = self.end;
        let lines = std::iter::once(start).chain(text.match_indices('\n').map(|(at, _)| start + at + 1)).collect();
        self.list.push(Source { kind, start, lines });
        // One more, so that the end of a text is not the start of the next.
        self.end = start + text.len() + 1;
        At(start)
    }

    /// Which text, counted from 0, and which of its lines, from 1.
    pub(super) fn place(&self, at: At) -> (usize, usize) {
        let which = self.list.partition_point(|source| source.start <= at.0).saturating_sub(1);
        let line = self.list.get(which).map_or(1, |source| source.lines.partition_point(|&start| start <= at.0));
        (which, line)
    }

    /// What the text is in which this position lies; none where there is no text at all.
    pub(super) fn kind(&self, at: At) -> Option<&Kind> {
        self.list.get(self.place(at).0).map(|source| &source.kind)
    }

    /// For people. A text that was never added is the job file.
    pub(super) fn origin(&self, at: At) -> Origin {
        let (_, line) = self.place(at);
        match self.kind(at) {
            None | Some(Kind::Job) => Origin::Line(line),
            Some(Kind::Catalogs(file)) => Origin::Catalogs { file: file.clone(), line },
            Some(Kind::Variable(name)) => Origin::Variable(name.clone()),
            Some(Kind::Set(key)) => Origin::Set(key.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_of_every_text_is_told_apart() {
        let mut sources = Sources::default();
        let job = sources.add(Kind::Job, "a\nbc\n");
        let catalogs = sources.add(Kind::Catalogs(String::from("c.toml")), "");
        let variable = sources.add(Kind::Variable(String::from("V")), "x\ny");
        let set = sources.add(Kind::Set(String::from("k")), "z");
        let told = |at: At, by: usize| sources.origin(At(at.0 + by)).to_string();
        assert_eq!([0, 1, 2, 4, 5].map(|by| told(job, by)), ["line 1", "line 1", "line 2", "line 2", "line 3"]);
        assert_eq!(told(catalogs, 0), "c.toml, line 1");
        assert_eq!([0, 2, 3].map(|by| told(variable, by)), ["variable V"; 3]);
        assert_eq!([0, 1].map(|by| told(set, by)), ["--set k"; 2]);
    }
}
