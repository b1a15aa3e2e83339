//! The picture that the frames show, and what a frame is made of.

use std::{fmt, path::Path, str::FromStr};

use image::{RgbImage, imageops::FilterType};

use crate::Result;

/// The size of a frame in pixels.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    width: u32,
    height: u32,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let size = text.split_once('x').and_then(|(width, height)| {
            let (width, height) = (width.parse().ok()?, height.parse().ok()?);
            let sides = 1..=10_000;
            (sides.contains(&width) && sides.contains(&height)).then_some(Self { width, height })
        });
        size.ok_or_else(|| "it is to be WxH, as 640x480, with sides from 1 to 10000".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// What a frame begins with: its number, how many there will be, and the checksum of its pixels, as little-endian words.
const HEAD_BYTES: usize = 24;

/// A picture as large as a frame. Each frame shows it moved a little further.
pub(crate) struct Picture(RgbImage);

impl Picture {
    pub(crate) fn read(path: &Path, size: Size) -> Result<Self> {
        let picture = image::open(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?
            .resize_exact(size.width, size.height, FilterType::Triangle);
        Ok(Self(picture.into_rgb8()))
    }

    /// The Mandelbrot set, by how soon its points leave it.
    pub(crate) fn draw(size: Size) -> Self {
        let scale = 3.0 / f64::from(size.width);
        let middle = f64::from(size.height) / 2.0;
        Self(RgbImage::from_fn(size.width, size.height, |x, y| {
            let (left, up) = (f64::from(x) * scale - 2.2, (f64::from(y) - middle) * scale);
            let (mut a, mut b, mut steps) = (0.0, 0.0, 0_u8);
            while a * a + b * b < 4.0 && steps < 63 {
                (a, b) = (a * a - b * b + left, 2.0 * a * b + up);
                steps += 1;
            }
            image::Rgb([steps * 4, steps.wrapping_mul(9), 255 - steps * 4])
        }))
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        HEAD_BYTES + self.0.as_raw().len()
    }

    /// Writes frame `number` of `frames` where it is to be read.
    pub(crate) fn fill(&self, number: u64, frames: u64, frame: &mut [u8]) {
        let (head, pixels) = frame.split_at_mut(HEAD_BYTES);
        let width = self.0.width() as usize;
        let moved = 3 * (number as usize * 8 % width);
        let rows = self.0.as_raw().chunks_exact(3 * width);
        for (row, from) in pixels.chunks_exact_mut(3 * width).zip(rows) {
            let (left, right) = from.split_at(moved);
            row[..right.len()].copy_from_slice(right);
            row[right.len()..].copy_from_slice(left);
        }
        let words = [number, frames, checksum(number, pixels)];
        for (bytes, word) in head.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// What a consumer sees of a frame.
pub(crate) struct Seen {
    pub(crate) is_right: bool,
    pub(crate) is_last: bool,
}

/// Reads a frame where it is.
pub(crate) fn look(frame: &[u8]) -> Seen {
    let Some((head, pixels)) = frame.split_at_checked(HEAD_BYTES) else {
        return Seen {
            is_right: false,
            is_last: false,
        };
    };
    let word = |at: usize| word(&head[8 * at..][..8]);
    let number = word(0);
    Seen {
        is_right: word(2) == checksum(number, pixels),
        is_last: number.wrapping_add(1) == word(1),
    }
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// FNV-1a by words and not by bytes, which is fast enough for every pixel of every frame.
fn checksum(number: u64, pixels: &[u8]) -> u64 {
    pixels
        .chunks(8)
        .fold(number ^ 0xCBF2_9CE4_8422_2325, |hash, bytes| {
            (hash ^ word(bytes)).wrapping_mul(0x100_0000_01B3)
        })
}
