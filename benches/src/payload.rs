//! What a message between processes carries, and in which way both sides wait: the same for all.

use std::{error::Error, fmt, str::FromStr};

use crate::processes::Here;

/// The words of a payload that only travels, and is checked all the same.
const PATTERN: u64 = 0x0123_4567_89ab_cdef;

/// Bytes of the number that stands at the beginning of each payload.
pub const NUMBER_BYTES: usize = size_of::<u64>();

/// What the publisher does to the payload, and the subscriber reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// In-place hand-over: the number is written and read, and nothing else.
    Touched,
    /// Each word is written where it will be read, and each is read.
    Written,
    /// It is copied from memory of the publisher's own, and each word is read.
    Copied,
}

/// How both sides wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never asleep.
    Spinning,
    /// As the program does by default: a moment awake, then asleep.
    SpinThenPark,
    /// Asleep at once.
    Parked,
}

/// What a run between processes is made with; the other process gets it as arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Bytes of each payload, a multiple of 8.
    pub bytes: usize,
    /// What is done to it.
    pub fill: Fill,
    /// How both sides wait.
    pub mode: Mode,
    /// For how many messages there is room where publishing waits for room.
    pub room: usize,
}

const FILLS: [Fill; 3] = [Fill::Touched, Fill::Written, Fill::Copied];
const MODES: [Mode; 3] = [Mode::Spinning, Mode::SpinThenPark, Mode::Parked];

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spinning => "spinning",
            Self::SpinThenPark => "spin_then_park",
            Self::Parked => "parked",
        })
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Touched => "touched",
            Self::Written => "written",
            Self::Copied => "copied",
        })
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut modes = MODES.into_iter();
        modes.find(|mode| mode.to_string() == text).ok_or(())
    }
}

impl FromStr for Fill {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fills = FILLS.into_iter();
        fills.find(|fill| fill.to_string() == text).ok_or(())
    }
}

impl Setting {
    /// How many arguments it is.
    pub const ARGUMENTS: usize = 4;

    /// As the arguments of the other process.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            self.bytes.to_string(),
            self.fill.to_string(),
            self.mode.to_string(),
            self.room.to_string(),
        ]
    }

    /// As the arguments of the other process, and one more.
    pub fn arguments_with(&self, more: u64) -> Vec<String> {
        let mut arguments = self.arguments();
        arguments.push(more.to_string());
        arguments
    }

    /// From the arguments of this process.
    ///
    /// # Errors
    ///
    /// If they are no setting.
    pub fn of(here: &Here) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            bytes: here.argument(0)?,
            fill: here.argument(1)?,
            mode: here.argument(2)?,
            room: here.argument(3)?,
        })
    }
}

/// Writes payloads.
#[derive(Debug)]
pub struct Writer {
    fill: Fill,
    own: Vec<u8>,
}

impl Writer {
    /// Makes the writer of a run.
    pub fn new(setting: Setting) -> Self {
        Self {
            fill: setting.fill,
            own: PATTERN.to_le_bytes().repeat(setting.bytes / NUMBER_BYTES),
        }
    }

    /// Writes payload `number` where the other side will read it.
    #[inline]
    pub fn write(&self, memory: &mut [u8], number: u64) {
        match self.fill {
            Fill::Touched => {}
            Fill::Written => write_words(memory, number),
            Fill::Copied => memory.copy_from_slice(&self.own),
        }
        memory[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
    }

    /// Payload `number` in memory of this process, for those who copy it themselves.
    #[inline]
    pub fn own(&mut self, number: u64) -> &[u8] {
        if self.fill == Fill::Written {
            write_words(&mut self.own, number);
        }
        self.own[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
        &self.own
    }
}

/// Reads and checks payload, and returns its number.
///
/// # Errors
///
/// If it is not what was written.
#[inline]
pub fn read(setting: Setting, memory: &[u8]) -> Result<u64, String> {
    if memory.len() != setting.bytes {
        return Err(format!("{} bytes came of {}", memory.len(), setting.bytes));
    }
    let Some((number, rest)) = memory.split_first_chunk() else {
        return Err("there is no number in it".to_owned());
    };
    let number = u64::from_le_bytes(*number);
    let each = match setting.fill {
        Fill::Touched => return Ok(number),
        Fill::Written => number,
        Fill::Copied => PATTERN,
    };
    let (words, _) = rest.as_chunks();
    let sum = words.iter().fold(0, |sum: u64, word| {
        sum.wrapping_add(u64::from_le_bytes(*word))
    });
    if sum != each.wrapping_mul(words.len() as u64) {
        return Err(format!("payload {number} is not what was written"));
    }
    Ok(number)
}

#[inline]
fn write_words(memory: &mut [u8], number: u64) {
    for word in memory.as_chunks_mut().0 {
        *word = number.to_le_bytes();
    }
}

/// A size as people write it.
pub fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 0x10_0000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_wrong_word_is_found() {
        for fill in FILLS {
            let setting = Setting {
                bytes: 4096,
                fill,
                mode: Mode::Parked,
                room: 1,
            };
            let mut writer = Writer::new(setting);
            let mut memory = vec![7; 4096];
            for number in [0, 5, u64::MAX] {
                writer.write(&mut memory, number);
                assert_eq!(read(setting, &memory), Ok(number));
                assert_eq!(read(setting, writer.own(number)), Ok(number));
            }
            assert!(read(setting, &memory[8..]).is_err());
            memory[4000] ^= 1;
            assert_eq!(read(setting, &memory).is_err(), fill != Fill::Touched);
        }
    }

    #[test]
    fn names_come_back() {
        for mode in MODES {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for fill in FILLS {
            assert_eq!(fill.to_string().parse(), Ok(fill));
        }
        assert_eq!(size(64 << 10), "64 KiB");
    }
}
