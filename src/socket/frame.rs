//! A WebSocket frame's header, read and written, and the client's mask (RFC 6455, section 5).

/// The longest header that a server writes: two bytes and a length of eight.
const WRITTEN_MAX: usize = 10;

/// The longest payload of a control frame.
pub(super) const CONTROL_MAX: usize = 125;

/// Lengths from here on follow in two bytes, or in eight.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

const LAST: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn read(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What a client's frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) last: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    pub(super) len: u64,
}

impl Header {
    /// The header that `bytes` begin with and what it takes of them; `None` while it is not whole.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, &'static str> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err("a reserved bit is set, and no extension was agreed on");
        }
        let opcode = Opcode::read(first & 0x0f).ok_or("an unknown kind of frame")?;
        if second & MASKED == 0 {
            return Err("a client's frame is not masked");
        }
        let (len, rest) = match second & !MASKED {
            LENGTH_16 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
                None => return Ok(None),
            },
            LENGTH_64 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            len => (u64::from(len), rest),
        };
        if bytes.len() - rest.len() > 2 && !needs(len, second & !MASKED) {
            return Err("a length is written in more bytes than it takes, or is no length");
        }
        let last = first & LAST != 0;
        if opcode.is_control() && (!last || len > CONTROL_MAX as u64) {
            return Err("a control frame is too long or in pieces");
        }
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let header = Self { last, opcode, mask: *mask, len };
        Ok(Some((header, bytes.len() - rest.len())))
    }
}

/// Whether a length has to be written in the bytes that `field` stands for.
fn needs(len: u64, field: u8) -> bool {
    if field == LENGTH_16 {
        len > CONTROL_MAX as u64
    } else {
        len > u64::from(u16::MAX) && i64::try_from(len).is_ok()
    }
}

/// The header of an unmasked frame that is a whole message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    bytes: [u8; WRITTEN_MAX],
    len: usize,
}

impl Written {
    pub(super) fn new(opcode: Opcode, payload: usize) -> Self {
        let mut bytes = [0; WRITTEN_MAX];
        bytes[0] = LAST | opcode.bits();
        let len = if payload <= CONTROL_MAX {
            bytes[1] = payload as u8;
            2
        } else if let Ok(payload) = u16::try_from(payload) {
            bytes[1] = LENGTH_16;
            bytes[2..4].copy_from_slice(&payload.to_be_bytes());
            4
        } else {
            bytes[1] = LENGTH_64;
            bytes[2..].copy_from_slice(&(payload as u64).to_be_bytes());
            WRITTEN_MAX
        };
        Self { bytes, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Takes the mask off `bytes`, which begin `at` bytes into the payload.
pub(super) fn unmask(bytes: &mut [u8], mut mask: [u8; 4], at: usize) {
    mask.rotate_left(at % 4);
    let (words, rest) = bytes.as_chunks_mut();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}
