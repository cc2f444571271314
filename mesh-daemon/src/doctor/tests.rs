use super::{Finding, Level, jit, kernel, overlay};
use crate::datapath::Pins;
use crate::datapath::preflight::Host;

fn levels(findings: &[Finding]) -> Vec<(&str, Level)> {
    findings.iter().map(|finding| (finding.check.as_str(), finding.level)).collect()
}

#[test]
fn each_thing_that_a_host_lacks_is_named_with_its_fix_and_hides_no_other() {
    let pins = Pins::new("/sys/fs/bpf/mesh");
    let fit = Host { capabilities: u64::MAX, release: "6.1.0-13-amd64".to_owned(), btf: true, bpffs: true };
    assert!(kernel(&fit, &pins).iter().all(|finding| finding.level == Level::Ok && finding.fix.is_empty()));
    let unfit = Host { capabilities: 0, release: "5.4.0".to_owned(), btf: false, bpffs: false };
    let findings = kernel(&unfit, &pins);
    let all = ["kernel", "capabilities", "btf", "bpffs"].map(|check| (check, Level::Broken));
    assert_eq!(levels(&findings), all);
    assert!(findings.iter().all(|finding| !finding.fix.is_empty()), "{findings:?}");
}

#[test]
fn settings_are_read_as_the_kernel_writes_them() {
    let rows = [
        (jit(None), Level::Ok),
        (jit(Some("1\n")), Level::Ok),
        (jit(Some("0\n")), Level::Warning),
        (overlay("nodev\tproc\nnodev\toverlay\n\text4\n"), Level::Ok),
        (overlay("nodev\toverlayish\n"), Level::Broken),
    ];
    for (finding, level) in rows {
        assert_eq!(finding.level, level, "{finding:?}");
    }
}
