//! Sources that can only be read in order.

use super::{Cx, Evaluator};
use flate2::{Decompress, FlushDecompress, Status};
use modelferry_core::expr::{NodeId, Op, VarintSign};
use modelferry_core::{Error, Result};
use std::sync::Mutex;

/// Positions in sequential sources, kept between reads so that a source read in order is read once.
#[derive(Default)]
pub(crate) struct Cursors {
    idle: Mutex<Vec<Cursor>>,
}

/// More than this many idle positions are forgotten, oldest first. Each holds some 100 KiB.
const MAX_IDLE: usize = 8;
/// Bytes of a source fetched at once.
const FETCH_BYTES: usize = 1 << 16;

struct Cursor {
    id: NodeId,
    /// Bytes given so far.
    at: u64,
    input: Fetched,
    state: State,
}

enum State {
    Inflate { inflate: Box<Decompress>, ended: bool },
    Varints,
}

impl Cursors {
    /// Fills `out` with the bytes of the sequential node `id` from byte `at * item` on.
    pub(crate) fn read(
        &self,
        evaluator: &Evaluator<'_>,
        id: NodeId,
        at: u64,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let node = &evaluator.nodes()[id];
        let at = at * node.dtype.item_bytes();
        let mut cursor = self.take(id, at).unwrap_or_else(|| Cursor::new(evaluator, id));
        let result = cursor.skip_to(evaluator, at, cx).and_then(|()| cursor.read(evaluator, out, cx));
        if result.is_ok() && cursor.at < node.byte_len() {
            let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if idle.len() >= MAX_IDLE {
                idle.remove(0);
            }
            idle.push(cursor);
        }
        result.map_err(|error| match evaluator.first_region(id) {
            Some((file, base)) => error.file(evaluator.source.inputs.name(file)).offset(base),
            None => error,
        })
    }

    /// The idle cursor that stands nearest before byte `at`.
    fn take(&self, id: NodeId, at: u64) -> Option<Cursor> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fits = |cursor: &Cursor| cursor.id == id && cursor.at <= at;
        let best = (0..idle.len()).filter(|&idx| fits(&idle[idx])).max_by_key(|&idx| idle[idx].at)?;
        Some(idle.remove(best))
    }
}

impl Cursor {
    fn new(evaluator: &Evaluator<'_>, id: NodeId) -> Cursor {
        // A stream is made of one sequence of bytes.
        let of = evaluator.nodes().children(id).next().unwrap_or(id);
        let state = match evaluator.nodes()[id].op {
            Op::Inflate { .. } => State::Inflate { inflate: Box::new(Decompress::new(false)), ended: false },
            _ => State::Varints,
        };
        Cursor { id, at: 0, input: Fetched { of, next: 0, buffer: vec![], used: 0 }, state }
    }

    fn skip_to(&mut self, evaluator: &Evaluator<'_>, at: u64, cx: &mut Cx) -> Result<()> {
        if self.at == at {
            return Ok(());
        }
        let mut waste = cx.take(FETCH_BYTES)?;
        while self.at < at {
            let len = (at - self.at).min(waste.len() as u64) as usize;
            self.read(evaluator, &mut waste[..len], cx)?;
        }
        cx.give(waste);
        Ok(())
    }

    fn read(&mut self, evaluator: &Evaluator<'_>, out: &mut [u8], cx: &mut Cx) -> Result<()> {
        let node = &evaluator.nodes()[self.id];
        match &node.op {
            Op::Inflate { .. } => self.inflate(evaluator, out, cx)?,
            Op::Varints { tag, sign, .. } => {
                let width = node.dtype.item_bytes() as usize;
                let mask = match node.dtype.bits() {
                    Some(bits) if bits < 8 => (1u64 << bits) - 1,
                    _ => u64::MAX,
                };
                for item in out.chunks_exact_mut(width) {
                    if let Some(tag) = tag {
                        let found = self.input.varint(evaluator, cx)?;
                        if found != *tag {
                            return Err(Error::malformed("an unpacked value has another tag")
                                .expected(tag)
                                .found(found));
                        }
                    }
                    let raw = self.input.varint(evaluator, cx)?;
                    let value = match sign {
                        VarintSign::Plain => raw,
                        VarintSign::ZigZag => (raw >> 1) ^ (raw & 1).wrapping_neg(),
                    };
                    item.copy_from_slice(&(value & mask).to_le_bytes()[..width]);
                }
            }
            _ => return Err(Error::plugin("a cursor over what is no stream; this is a bug in modelferry")),
        }
        self.at += out.len() as u64;
        if self.at == node.byte_len() {
            self.check_end(evaluator, cx)?;
        }
        Ok(())
    }

    fn inflate(&mut self, evaluator: &Evaluator<'_>, out: &mut [u8], cx: &mut Cx) -> Result<()> {
        let State::Inflate { inflate, ended } = &mut self.state else { return Ok(()) };
        let mut filled = 0;
        while filled < out.len() {
            self.input.refill(evaluator, cx)?;
            let (read, made) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(self.input.rest(), &mut out[filled..], FlushDecompress::None)
                .map_err(|error| Error::malformed("the deflate stream is damaged").source(error))?;
            let read = (inflate.total_in() - read) as usize;
            let made = (inflate.total_out() - made) as usize;
            self.input.used += read;
            filled += made;
            *ended = status == Status::StreamEnd;
            if filled < out.len() && (*ended || read == 0 && made == 0) {
                return Err(Error::malformed("the deflate stream ends early")
                    .expected(format_args!("{} bytes", evaluator.nodes()[self.id].n))
                    .found(format_args!("{} bytes", self.at + filled as u64)));
            }
        }
        Ok(())
    }

    /// At the last byte: the stream must end there, and its input too.
    fn check_end(&mut self, evaluator: &Evaluator<'_>, cx: &mut Cx) -> Result<()> {
        if let State::Inflate { inflate, ended } = &mut self.state {
            let mut probe = [0u8; 1];
            while !*ended {
                self.input.refill(evaluator, cx)?;
                let (read, made) = (inflate.total_in(), inflate.total_out());
                let status = inflate
                    .decompress(self.input.rest(), &mut probe, FlushDecompress::Finish)
                    .map_err(|error| Error::malformed("the deflate stream is damaged").source(error))?;
                self.input.used += (inflate.total_in() - read) as usize;
                *ended = status == Status::StreamEnd;
                if inflate.total_out() > made {
                    return Err(Error::malformed("the deflate stream is longer than stated")
                        .expected(format_args!("{} bytes", evaluator.nodes()[self.id].n)));
                }
                if !*ended && inflate.total_in() == read {
                    return Err(Error::malformed("the deflate stream has no end"));
                }
            }
        }
        let n_left = self.input.left(evaluator);
        if n_left > 0 {
            return Err(
                Error::malformed("a stream has bytes after its end").found(format_args!("{n_left} bytes"))
            );
        }
        Ok(())
    }
}

/// The source of a cursor, fetched piece by piece.
struct Fetched {
    of: NodeId,
    /// First byte not fetched yet.
    next: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Fetched {
    fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    fn left(&self, evaluator: &Evaluator<'_>) -> u64 {
        evaluator.nodes()[self.of].n - self.next + self.rest().len() as u64
    }

    /// Fetches more when everything fetched is used up; at the end of the source, leaves nothing.
    fn refill(&mut self, evaluator: &Evaluator<'_>, cx: &mut Cx) -> Result<()> {
        if !self.rest().is_empty() {
            return Ok(());
        }
        let len = (evaluator.nodes()[self.of].n - self.next).min(FETCH_BYTES as u64) as usize;
        self.buffer.resize(len, 0);
        self.used = 0;
        evaluator.fill_run(self.of, self.next, len, &mut self.buffer, cx)?;
        self.next += len as u64;
        Ok(())
    }

    fn varint(&mut self, evaluator: &Evaluator<'_>, cx: &mut Cx) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            self.refill(evaluator, cx)?;
            let Some(&byte) = self.rest().first() else {
                return Err(Error::malformed("a stream of varints ends early"));
            };
            self.used += 1;
            // The tenth byte holds the 64th bit only.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::malformed("a varint is longer than 64 bits"))
    }
}
