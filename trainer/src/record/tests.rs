use super::*;
use crate::observe::Silent;

/// An event as a parser of its own reads it: step, file version, whether it is a START, scalars.
#[derive(Debug, Default, PartialEq)]
struct Read {
    wall: f64,
    step: u64,
    version: String,
    start: bool,
    scalars: Vec<(String, f32)>,
}

/// CRC-32C bit by bit (polynomial 0x1EDC6F41 reflected), masked as TFRecord does.
fn checksum(bytes: &[u8]) -> u32 {
    let crc = !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0x82F6_3B78 & (c & 1).wrapping_neg()))
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The fields of a protobuf message: (number, value of a varint or fixed field, bytes of others).
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut n = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        n
    }
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (value, length) = match key & 7 {
            0 => (varint(&mut bytes), 0),
            1 => (u64::from_le_bytes(bytes[..8].try_into().unwrap()), 8),
            5 => (u64::from(u32::from_le_bytes(bytes[..4].try_into().unwrap())), 4),
            2 => (0, varint(&mut bytes) as usize),
            wire => panic!("wire type {wire}"),
        };
        out.push((key >> 3, value, &bytes[..length]));
        bytes = &bytes[length..];
    }
    out
}

/// Reads an event file, checking every length and checksum.
fn events(path: &Path) -> Vec<Read> {
    let bytes = std::fs::read(path).unwrap();
    let (mut rest, mut out) = (bytes.as_slice(), Vec::new());
    let word = |b: &[u8]| u32::from_le_bytes(b[..4].try_into().unwrap());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(word(&rest[8..]), checksum(&rest[..8]));
        let content = &rest[12..12 + length];
        assert_eq!(word(&rest[12 + length..]), checksum(content));
        rest = &rest[16 + length..];
        let mut read = Read::default();
        for (field, value, inner) in fields(content) {
            match field {
                1 => read.wall = f64::from_bits(value),
                2 => read.step = value,
                3 => read.version = String::from_utf8(inner.to_vec()).unwrap(),
                5 => {
                    for (_, _, one) in fields(inner) {
                        let parts = fields(one);
                        let tag = String::from_utf8(parts[0].2.to_vec()).unwrap();
                        read.scalars.push((tag, f32::from_bits(parts[1].1 as u32)));
                    }
                }
                7 => read.start = fields(inner)[0].1 == 1,
                other => panic!("field {other}"),
            }
        }
        out.push(read);
    }
    out
}

fn event_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut out: Vec<_> = entries.filter(|p| p.to_str().unwrap().contains("tfevents")).collect();
    out.sort();
    out
}

fn step(step: u64) -> Training {
    Training {
        event: Event::Step,
        step,
        epoch: 1 + (step - 1) / 10,
        loss: 1.0 / step as f64,
        lr: 1e-3,
        gradient_norm: 0.5 * step as f64,
        tokens: 600 * step,
        skipped: 0,
        valid_ndcg_10: None,
    }
}

fn epoch(at: u64) -> Training {
    Training { event: Event::Epoch, valid_ndcg_10: Some(0.25), ..step(at) }
}

/// What of the lines does not depend on the clock.
fn timeless(folder: &Path) -> Vec<Line> {
    let mut lines = metrics::read(&folder.join(metrics::FILE)).unwrap();
    for line in &mut lines {
        assert!(line.seconds >= 0.0);
        (line.tokens_per_s, line.seconds, line.peak_rss_bytes) = (None, 0.0, None);
    }
    lines
}

fn record(folder: &Path, resumed: Option<u64>, steps: std::ops::RangeInclusive<u64>) {
    let recorder = Recorder::new(folder, &Silent);
    recorder.begin("sft", 30, "steps");
    if let Some(step) = resumed {
        recorder.resumed(step, step / 10);
    }
    for at in steps {
        recorder.trained(&step(at));
        if at % 10 == 0 {
            recorder.trained(&epoch(at));
        }
    }
    recorder.finish().unwrap();
}

#[test]
fn checksums_are_crc_32c() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    assert_eq!(checksum(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
}

#[test]
fn events_come_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), None, 1..=20);
    let files = event_files(folder.path());
    assert_eq!(files.len(), 1);
    let read = events(&files[0]);
    assert_eq!((read[0].version.as_str(), read[0].step), ("brain.Event:2", 0));
    assert!(read.iter().all(|e| e.wall > 1.7e9 && !e.start));
    assert_eq!(read.len(), 1 + 20 + 2);
    assert_eq!(read[3].step, 3);
    let scalar = |name: &str| read[3].scalars.iter().find(|(tag, _)| tag == name).unwrap().1;
    assert_eq!(scalar("train/loss"), (1.0f64 / 3.0) as f32);
    assert_eq!((scalar("train/lr"), scalar("train/gradient_norm")), (1e-3, 1.5));
    let last = read.last().unwrap();
    assert_eq!(
        last.scalars,
        [("train/epoch_loss".to_owned(), 0.05), ("valid/NDCG@10".to_owned(), 0.25)]
    );
    // A step beyond 127 takes two bytes.
    let mut file = EventFile::begin(folder.path(), Some(70_000)).unwrap();
    file.scalars(1 << 40, &[("x", -1.5)]).unwrap();
    let read = events(event_files(folder.path()).last().unwrap());
    assert!(read[1].start && read[1].step == 70_000);
    assert_eq!((read[2].step, read[2].scalars[0].1), (1 << 40, -1.5));
}

#[test]
fn a_resumed_run_leaves_the_lines_of_one_that_was_never_killed() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    record(whole.path(), None, 1..=30);
    record(killed.path(), None, 1..=20);
    let path = killed.path().join(metrics::FILE);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text += "{\"event\":\"step\",\"ste"; // the kill came in the middle of a line
    std::fs::write(&path, text).unwrap();
    record(killed.path(), Some(12), 13..=17);
    record(killed.path(), Some(15), 16..=30);
    assert_eq!(timeless(killed.path()), timeless(whole.path()));
    assert_eq!(timeless(whole.path()).len(), 33);

    // As TensorBoard reads: a START at a step voids that step and later ones of the files before.
    let losses = |folder: &Path| {
        let mut out: Vec<(u64, f32)> = Vec::new();
        for event in event_files(folder).iter().flat_map(|f| events(f)) {
            if event.start {
                out.retain(|(step, _)| *step < event.step);
            }
            let loss = event.scalars.iter().find(|(tag, _)| tag == "train/loss");
            out.extend(loss.map(|(_, value)| (event.step, *value)));
        }
        out
    };
    assert_eq!(event_files(killed.path()).len(), 3);
    assert_eq!(losses(killed.path()), losses(whole.path()));
    assert_eq!(losses(whole.path()).len(), 30);
}

#[test]
fn a_run_from_the_start_begins_the_files_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.out.tfevents.1.other"), b"not ours").unwrap();
    record(folder.path(), None, 1..=5);
    record(folder.path(), None, 1..=3);
    assert_eq!(timeless(folder.path()).len(), 3);
    assert_eq!(event_files(folder.path()).len(), 2, "one of ours and the other program's");
}

#[test]
fn what_is_not_finite_is_null_and_long_runs_are_thinned() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(folder.path(), &Silent);
    recorder.begin("sft", 5000, "steps");
    for at in 1..=5000 {
        recorder.trained(&Training { loss: f64::NAN, gradient_norm: f64::INFINITY, ..step(at) });
    }
    recorder.finish().unwrap();
    let lines = timeless(folder.path());
    assert_eq!((lines.len(), lines[0].step, lines[0].loss), (1000, 5, None));
    let text = std::fs::read_to_string(folder.path().join(metrics::FILE)).unwrap();
    assert!(text.starts_with("{\"event\":\"step\",\"step\":5,"), "{text}");
    assert!(text.contains("\"gradient_norm\":null"));
}

#[test]
fn a_disk_that_refuses_stops_the_run_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("absent");
    let recorder = Recorder::new(&nowhere, &Silent);
    assert!(!recorder.stop());
    recorder.trained(&step(1));
    assert!(recorder.stop());
    assert!(recorder.finish().unwrap_err().to_string().contains("absent"));
}

#[test]
fn a_line_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(metrics::FILE);
    let good = Line::of(&step(1)).text();
    std::fs::write(&path, format!("{good}{{\"step\":2}}\n")).unwrap();
    let error = metrics::read(&path).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("metrics.jsonl"), "{error}");
}
