//! The alarm rule on courses of readings by hand.

use super::super::*;

fn reading(step: u64, hit: f64, gamed: f64, hit_rate: f64, coverage: f64) -> Reading {
    let parts = vec![("hit".to_string(), hit), ("covisit".to_string(), gamed)];
    Reading { step, total: hit + gamed, parts, hit_rate, rows: 10_000, coverage }
}

fn run(of: impl Fn(u64) -> Reading, steps: u64) -> Vec<Alarm> {
    let mut alarms = Alarms::new(AlarmRule::default(), Vec::new());
    (0..steps).flat_map(|s| alarms.watch(of(s))).collect()
}

#[test]
fn a_gamed_reward_is_named() {
    // The hit rate falls by a thousandth a reading, no window beside the next one would show it.
    let slow = |s: u64| reading(s, 0.1, 0.01 * s as f64, 0.2 - 0.001 * s as f64, 0.5);
    let raised = run(slow, 30);
    let first = raised.first().unwrap();
    // 2 % of .2 are .004; two sigmas of the binomial noise, 2·√(.199·.801·2/10⁴) = .0113, decide: 12 readings.
    assert_eq!((first.step, first.fell, first.since), (14, Fell::HitRate, 2));
    assert!((first.from - 0.199).abs() < 1e-12 && (first.to - 0.187).abs() < 1e-12, "{first:?}");
    let (name, rise) = first.part.clone().unwrap();
    assert!(name == "covisit" && (rise - 0.12).abs() < 1e-12, "{first}");
    assert!(first.to_string().contains("lower its weight"), "{first}");
    assert!(raised.iter().all(|a| a.fell == Fell::HitRate));
}

#[test]
fn a_shrinking_coverage_is_named() {
    let narrow = |s: u64| reading(s, 0.1 + 0.01 * s as f64, 0.0, 0.2, 0.5 * 0.97f64.powi(s as i32));
    let raised = run(narrow, 12);
    assert!(raised.iter().all(|a| a.fell == Fell::Coverage));
    // .97³ = .913 and .97⁴ = .885: the fourth window apart has lost a tenth.
    assert_eq!(raised.first().unwrap().step, 6);
}

#[test]
fn honest_runs_raise_nothing() {
    let better = |s: u64| reading(s, 0.1 + 0.01 * s as f64, 0.0, 0.2 + 0.001 * s as f64, 0.5);
    assert_eq!(run(better, 40), []);
    // All gets worse together: no gaming, the guard's business.
    let worse = |s: u64| reading(s, 0.5 - 0.01 * s as f64, 0.0, 0.2 - 0.002 * s as f64, 0.5);
    assert_eq!(run(worse, 40), []);
    // A reward that jitters around a constant while the hit rate falls.
    let jitter = |s: u64| reading(s, 0.1 + 0.05 * (s % 2) as f64, 0.0, 0.2 - 0.001 * s as f64, 0.5);
    assert_eq!(run(jitter, 40), []);
}

#[test]
fn too_few_readings_say_nothing_and_the_state_goes_through_json() {
    let rule = AlarmRule { window: 2, ..AlarmRule::default() };
    let mut alarms = Alarms::new(rule, Vec::new());
    for s in 0..3 {
        assert_eq!(alarms.watch(reading(s, s as f64, 0.0, 0.5 - 0.1 * s as f64, 0.5)), []);
    }
    let text = serde_json::to_string(alarms.readings()).unwrap();
    let mut again = Alarms::new(rule, serde_json::from_str(&text).unwrap());
    assert_eq!(again, alarms);
    let next = reading(3, 3.0, 0.0, 0.2, 0.5);
    let raised = alarms.watch(next.clone());
    assert_eq!((raised.len(), again.watch(next)), (1, raised));
}
