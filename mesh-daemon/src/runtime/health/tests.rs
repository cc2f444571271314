use super::*;

fn check(spec: &[&str]) -> Option<Check> {
    let test = spec.iter().map(|word| (*word).to_owned()).collect();
    Check::of(Some(&Healthcheck { test, ..Healthcheck::default() }), None)
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn the_command_is_that_of_the_spec_else_of_the_image_and_none_switches_it_off() {
    let image = ImageHealthcheck { test: Some(vec!["CMD".into(), "/ok".into()]), ..ImageHealthcheck::default() };
    let of = |spec: &[&str]| {
        let test = spec.iter().map(|word| (*word).to_owned()).collect();
        Check::of(Some(&Healthcheck { test, ..Healthcheck::default() }), Some(&image)).map(|check| check.command)
    };
    assert_eq!(of(&[]).unwrap(), ["/ok"]);
    assert_eq!(of(&["CMD", "a", "b"]).unwrap(), ["a", "b"]);
    assert_eq!(of(&["CMD-SHELL", "a | b"]).unwrap(), ["/bin/sh", "-c", "a | b"]);
    assert_eq!(of(&["NONE"]), None);
    assert_eq!(of(&["CMD"]), None);
    assert_eq!(Check::of(None, None), None);
}

#[test]
fn times_are_the_specs_then_the_images_then_dockers() {
    let spec =
        Healthcheck { test: vec!["CMD".into(), "a".into()], interval: Some(seconds(1)), ..Healthcheck::default() };
    let image = ImageHealthcheck { interval: 9_000_000_000, timeout: 2_000_000_000, ..ImageHealthcheck::default() };
    let check = Check::of(Some(&spec), Some(&image)).unwrap();
    assert_eq!((check.interval, check.timeout, check.retries), (seconds(1), seconds(2), 3));
    assert_eq!((check.start_period, check.start_interval), (seconds(0), seconds(5)));
}

/// The health after each answer, as letters: `s`tarting, `h`ealthy, `u`nhealthy. An answer is `+` or
/// `-`, ten seconds apart.
fn judged(check: &Check, answers: &str) -> String {
    let mut judge = Judge::new(check, Health::Starting);
    let hear = |(at, answer): (usize, char)| {
        let since_start = seconds(10) * u32::try_from(at).unwrap();
        judge.hear(Probed { well: answer == '+', output: String::new() }, since_start);
        match judge.health {
            Health::Healthy => 'h',
            Health::Unhealthy { .. } => 'u',
            Health::Starting | Health::None => 's',
        }
    };
    answers.chars().enumerate().map(hear).collect()
}

#[test]
fn so_many_failures_in_a_row_make_it_unhealthy_and_one_success_makes_it_well() {
    let three = check(&["CMD", "a"]).unwrap();
    let started = Check { start_period: seconds(30), ..three.clone() };
    for (check, answers, healths) in [
        (&three, "+--+", "hhhh"),
        (&three, "---+", "ssuh"),
        (&three, "--+---", "sshhhu"),
        // At 0, 10 and 20 s failures do not count; at 30 s they do.
        (&started, "------", "sssssu"),
        // Once well, they count at once.
        (&started, "+---", "hhhu"),
    ] {
        assert_eq!(judged(check, answers), healths, "{answers}");
    }
}

#[tokio::test]
async fn probes_come_by_the_interval_and_changes_are_told() {
    let interval = Duration::from_millis(20);
    let check = Check { interval, ..check(&["CMD", "a"]).unwrap() };
    let (told, mut health) = watch::channel(Health::Starting);
    let begun = Instant::now();
    let mut answers = [true, false, false, false].into_iter();
    let probe = move || {
        let well = answers.next().unwrap_or(true);
        async move { Probed { well, output: "no".to_owned() } }
    };
    let watching = watch(check, Duration::ZERO, told, probe);
    let reading = async move {
        health.changed().await.unwrap();
        assert_eq!(health.borrow_and_update().clone(), Health::Healthy);
        assert!(begun.elapsed() >= interval);
        health.changed().await.unwrap();
        let unhealthy = Health::Unhealthy { output: "no".to_owned() };
        assert_eq!(health.borrow_and_update().clone(), unhealthy);
        assert!(begun.elapsed() >= interval * 4);
        drop(health);
    };
    // The watch ends by itself when nobody listens.
    tokio::join!(watching, reading);
}
