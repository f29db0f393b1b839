//! The battery-backed clock (MC146818), read once at start.

use core::time::Duration;

use super::io_port::IoPort;

const UPDATE_IN_PROGRESS: u8 = 0x80;
const BINARY: u8 = 0x04;
const TWENTY_FOUR_HOURS: u8 = 0x02;
const AFTERNOON: u8 = 0x80;

/// Time since the Unix epoch, taking the clock for UTC, as QEMU sets it unless told
/// otherwise; `None` if there is no clock or it does not make sense.
pub(crate) fn read() -> Option<Duration> {
    // Two equal readings in a row were not torn by the clock's tick.
    (0..8).find_map(|_| read_once().filter(|&first| read_once() == Some(first)))
}

fn read_once() -> Option<Duration> {
    let settled = (0..10_000).any(|_| register(0x0a) & UPDATE_IN_PROGRESS == 0);
    if !settled {
        return None;
    }
    let format = register(0x0b);
    let number = |raw: u8| {
        if format & BINARY != 0 {
            raw
        } else {
            (raw >> 4) * 10 + (raw & 0x0f)
        }
    };
    let raw_hour = register(0x04);
    let mut hour = number(raw_hour & !AFTERNOON);
    if format & TWENTY_FOUR_HOURS == 0 {
        hour = hour % 12 + if raw_hour & AFTERNOON != 0 { 12 } else { 0 };
    }
    let (second, minute) = (number(register(0x00)), number(register(0x02)));
    let (day, month) = (number(register(0x07)), number(register(0x08)));
    let year = 2000 + u64::from(number(register(0x09)));
    let sane = second < 60 && minute < 60 && hour < 24;
    if !sane || !(1..=31).contains(&day) || !(1..=12).contains(&month) {
        return None;
    }
    let days = days_since_epoch(year, u64::from(month), u64::from(day));
    let seconds = u64::from(hour) * 3600 + u64::from(minute) * 60 + u64::from(second);
    Some(Duration::from_secs(days * 86_400 + seconds))
}

fn register(number: u8) -> u8 {
    IoPort::CLOCK_INDEX.write_u8(number);
    IoPort::CLOCK_DATA.read_u8()
}

/// Days from 1970-01-01 to a day of the Gregorian calendar from 2000 on. Years are taken to
/// start in March, so that the leap day is the last day of its year.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days_before_month = (153 * month + 2) / 5;
    let leap_days = year / 4 - year / 100 + year / 400;
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: u64 = 719_468;
    year * 365 + leap_days + days_before_month + day - 1 - EPOCH
}
