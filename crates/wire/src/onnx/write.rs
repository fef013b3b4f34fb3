//! Protobuf messages in the making, with room for payload.

use super::fields::{Wire, put_varint, tag};

/// What a message is made of, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// All bytes of a tensor, by its position in the model.
    Tensor {
        /// Position.
        idx: usize,
        /// How many bytes.
        len: u64,
    },
}

/// A message: bytes and payload in order. Fields stand in the order in which they are added.
#[derive(Clone, Debug, Default)]
pub struct Message {
    parts: Vec<Part>,
    /// Bytes behind the last part.
    tail: Vec<u8>,
    len: u64,
}

impl Message {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it is made of.
    pub fn into_parts(mut self) -> Vec<Part> {
        self.flush();
        self.parts
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push(Part::Bytes(std::mem::take(&mut self.tail)));
        }
    }

    fn put(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        put(&mut self.tail);
        self.len += (self.tail.len() - before) as u64;
    }

    /// Appends fields as they are.
    pub fn raw(&mut self, fields: &[u8]) {
        self.put(|out| out.extend_from_slice(fields));
    }

    /// Appends a whole number.
    pub fn int(&mut self, number: u32, value: i64) {
        self.put(|out| {
            put_varint(out, tag(number, Wire::Varint));
            put_varint(out, value as u64);
        });
    }

    fn head(&mut self, number: u32, len: u64) {
        self.put(|out| {
            put_varint(out, tag(number, Wire::Bytes));
            put_varint(out, len);
        });
    }

    /// Appends bytes or text.
    pub fn bytes(&mut self, number: u32, value: &[u8]) {
        self.head(number, value.len() as u64);
        self.raw(value);
    }

    /// Appends a message that prost encodes.
    pub fn small(&mut self, number: u32, message: &impl prost::Message) {
        self.bytes(number, &message.encode_to_vec());
    }

    /// Appends a message.
    pub fn message(&mut self, number: u32, message: Message) {
        self.head(number, message.len);
        for part in message.into_parts() {
            match part {
                Part::Bytes(bytes) => self.raw(&bytes),
                Part::Tensor { idx, len } => self.payload(idx, len),
            }
        }
    }

    /// Appends the bytes of a tensor.
    pub fn tensor(&mut self, number: u32, idx: usize, len: u64) {
        self.head(number, len);
        self.payload(idx, len);
    }

    fn payload(&mut self, idx: usize, len: u64) {
        self.flush();
        self.parts.push(Part::Tensor { idx, len });
        self.len += len;
    }
}
