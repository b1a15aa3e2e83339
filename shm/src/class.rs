//! Sizes of slots: four to an octave, so that at most a fifth of a slot is unused, from 256 bytes.

use crate::layout::{LINE, PAGE, SLOT_HEADER_BYTES};

/// The smallest slot's payload, in bytes.
const FIRST_BYTES: usize = 256;
const STEPS: usize = 4;

/// Slots with payloads of this many bytes or more start at pages.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

/// How many classes there are; the last has 1.75 GiB.
pub(crate) const CLASSES: usize = 23 * STEPS;

/// This many classes on, payloads have four times the bytes.
pub(crate) const FOURFOLD: usize = 2 * STEPS;

/// The payload bytes of a class.
pub(crate) const fn class_bytes(class: usize) -> usize {
    (FIRST_BYTES << (class / STEPS)) / STEPS * (STEPS + class % STEPS)
}

/// The smallest class that holds `bytes`, or `None` if there is none.
pub(crate) fn class_for(bytes: usize) -> Option<usize> {
    (bytes <= class_bytes(CLASSES - 1)).then(|| {
        let octave = bytes.saturating_sub(1).max(FIRST_BYTES - 1).ilog2() as usize
            - (FIRST_BYTES.ilog2() as usize - 1);
        // The octave before may have a step that is just enough.
        let first = octave.saturating_sub(1) * STEPS;
        let enough = |class: &usize| class_bytes(*class) >= bytes;
        (first..CLASSES)
            .find(enough)
            .expect("the last class is enough")
    })
}

/// From one slot to the next, in bytes.
pub(crate) const fn stride(payload_bytes: usize) -> usize {
    let multiple = if payload_bytes >= LARGE_BYTES {
        PAGE
    } else {
        LINE
    };
    (SLOT_HEADER_BYTES + payload_bytes).next_multiple_of(multiple)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_smallest_that_is_enough() {
        for bytes in (0..5000).chain([65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1]) {
            let class = class_for(bytes).unwrap();
            assert!(class_bytes(class) >= bytes);
            assert!(class == 0 || class_bytes(class - 1) < bytes, "{bytes}");
        }
        let last = class_bytes(CLASSES - 1);
        assert_eq!(class_for(last), Some(CLASSES - 1));
        assert_eq!(class_for(last + 1), None);
    }

    #[test]
    fn slots_are_aligned_and_large_ones_start_at_pages() {
        for class in 0..CLASSES {
            let bytes = class_bytes(class);
            assert!(stride(bytes).is_multiple_of(LINE));
            assert!(bytes < LARGE_BYTES || stride(bytes).is_multiple_of(PAGE));
            assert!(stride(bytes) - bytes <= SLOT_HEADER_BYTES + PAGE);
        }
        assert_eq!(
            [class_bytes(0), class_bytes(1), class_bytes(4)],
            [256, 320, 512]
        );
        assert_eq!(class_bytes(3 + FOURFOLD), 4 * class_bytes(3));
    }
}
