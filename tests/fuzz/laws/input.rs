//! Values out of bytes: what libFuzzer changes in one byte changes one value.

/// Takes bytes from the front; what is missing is zero.
#[derive(Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(super) fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number of one, two or eight bytes, or one at the ends of the range.
    pub(super) fn number(&mut self) -> i64 {
        match self.byte() % 8 {
            0 => i64::MIN,
            1 => i64::MAX,
            2 | 3 => i64::from(self.word()),
            4 => i64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            _ => i64::from(self.byte()) - 128,
        }
    }

    /// A short text, of a few letters so that equal ones are frequent.
    pub(super) fn text(&mut self) -> String {
        let length = usize::from(self.byte() % 6);
        self.bytes(length).iter().map(|byte| char::from(b"\0ab\xe9"[usize::from(byte % 4)])).collect()
    }

    /// Up to `length` bytes.
    pub(super) fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
