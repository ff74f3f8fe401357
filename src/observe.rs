//! What a run tells its watcher while it works: phases and progress, for progress bars and logs.
//!
//! Never changes what a run does.

/// The steps of a batch, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Loading the table and asking the broker.
    Plan,
    /// Pulling, decoding and deduping.
    Pull,
    /// Writing rows that no longer fit in memory, while pulling goes on.
    Flush,
    /// Searching the ids in the table.
    Match,
    /// Writing data and delete files.
    Write,
    /// Writing manifests and swapping the head.
    Commit,
    /// Appending to the rejects table.
    Rejects,
    /// After the last commit.
    Done,
}

impl Phase {
    /// Name as it stands in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Pull => "pull",
            Self::Flush => "flush",
            Self::Match => "match",
            Self::Write => "write",
            Self::Commit => "commit",
            Self::Rejects => "rejects",
            Self::Done => "done",
        }
    }
}

/// Watches a run. Called from several threads.
pub trait Observer: Send + Sync {
    /// A phase began.
    fn phase(&self, phase: Phase);
    /// A batch of at most this many offsets was planned.
    fn planned(&self, offsets: u64);
    /// So many records and bytes of the batch have been read so far: sums since `planned`, not what is new since the last call.
    fn read(&self, records: u64, bytes: u64);
}

/// Watches nothing.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {
    fn phase(&self, _: Phase) {}
    fn planned(&self, _: u64) {}
    fn read(&self, _: u64, _: u64) {}
}
