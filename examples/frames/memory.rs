//! In which file of shared memory bytes lie, as the kernel knows it.

use std::{fs, io};

/// The device and number of the file that the first of `bytes` is shared through with other processes; `None` if it is this
/// process's own memory, or if the system does not say.
pub(crate) fn shared_file(bytes: &[u8]) -> io::Result<Option<String>> {
    let address = bytes.as_ptr() as usize;
    // Each line: from-to permissions offset device number [name]
    let maps = fs::read_to_string("/proc/self/maps")?;
    Ok(maps.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let hexadecimal = |text| usize::from_str_radix(text, 16).ok();
        if !(hexadecimal(from)?..hexadecimal(to)?).contains(&address) {
            return None;
        }
        let is_shared = fields.next()?.contains('s');
        let (device, number) = (fields.nth(1)?, fields.next()?);
        is_shared.then(|| format!("{device} {number}"))
    }))
}
