//! Lets one run at a time go on, from one external call to the next.

use std::sync::{Condvar, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// On its way to its next call.
    Going,
    /// At a call, until it is let through.
    Waiting,
    /// It ended.
    Over,
}

/// Where runs wait for their turn. Who holds the script lets them go on, and waits until they wait again.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    turns: Mutex<Vec<Turn>>,
    changed: Condvar,
}

impl Gate {
    /// A number for one more run, which goes on until its first call.
    pub(crate) fn admit(&self) -> usize {
        let mut turns = self.turns.lock().unwrap();
        turns.push(Turn::Going);
        turns.len() - 1
    }

    /// Called by a run: waits to be let through.
    pub(crate) fn wait(&self, number: usize) {
        self.set(number, Turn::Waiting);
        let turns = self.turns.lock().unwrap();
        drop(self.changed.wait_while(turns, |turns| turns[number] == Turn::Waiting).unwrap());
    }

    /// Called by a run when it ends.
    pub(crate) fn leave(&self, number: usize) {
        self.set(number, Turn::Over);
    }

    /// Called by the script: lets a waiting run through one call; answers whether it waits at a further one.
    pub(crate) fn go(&self, number: usize) -> bool {
        if self.turns.lock().unwrap()[number] == Turn::Over {
            return false;
        }
        self.set(number, Turn::Going);
        self.settle(number)
    }

    /// Waits until a run waits or is over; answers whether it waits.
    pub(crate) fn settle(&self, number: usize) -> bool {
        let turns = self.turns.lock().unwrap();
        self.changed.wait_while(turns, |turns| turns[number] == Turn::Going).unwrap()[number] == Turn::Waiting
    }

    fn set(&self, number: usize, turn: Turn) {
        self.turns.lock().unwrap()[number] = turn;
        self.changed.notify_all();
    }
}
