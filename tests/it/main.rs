//! Integration tests: one binary, so that linking is paid once. Each file registers its trials.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the program, its peers and real tools"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod bridge_bytes;
mod bridge_life;
mod bridge_policies;
mod bridge_rig;
mod bytes;
mod capture;
mod census;
mod console;
mod console_menu;
mod control;
mod debian;
mod debian_rig;
mod debug_lab;
mod demo;
mod e2e_again;
mod e2e_bridge;
mod e2e_debug;
mod e2e_own;
mod e2e_reset;
mod e2e_shared;
mod endpoint;
mod endpoint_errors;
mod exec;
mod faults;
mod firewall;
mod guest;
mod guest_bad;
mod guest_linux;
mod guest_serial;
mod guest_stage;
mod guest_trees;
mod guest_windows;
mod helper;
mod helper_bridge;
mod helper_rig;
mod holders;
mod host_sysrq;
mod joined;
mod kit;
mod lost_output;
mod mux;
mod namespace;
mod plan_apply;
mod powershell;
mod profile;
mod pty;
mod real_clients;
mod setup_helper;
mod setup_helper_far;
mod setup_hyperv;
mod setup_qemu;
mod setup_vmware;
mod shared_rig;
mod ssh_hosts;
mod ssh_passwords;
mod ssh_probe;
mod ssh_users;
mod sshd;
mod telnet;
mod telnet_peers;
mod terminal_panic;
mod terminal_rig;
mod tty;
mod via;
mod wine;
mod xen;

fn main() -> std::process::ExitCode {
    // Called by a link with a stand-in's name (`Sandbox::stand_in`), this binary is that stand-in.
    if let Some(code) = vmserial_testkit::multi_call(std::env::args_os()) {
        return code;
    }
    if let Some(code) = ssh_probe::called(std::env::args()) {
        return code;
    }
    if let Some(code) = terminal_panic::child() {
        return code;
    }
    let arguments = libtest_mimic::Arguments::from_args();
    // Those that take longest come first: beside them there is room for all the others.
    let mut trials = Vec::new();
    trials.extend(debian::trials());
    trials.extend(via::trials());
    trials.extend(real_clients::trials());
    trials.extend(bad_input::trials());
    trials.extend(console::trials());
    trials.extend(console_menu::trials());
    trials.extend(bridge_bytes::trials());
    trials.extend(bridge_life::trials());
    trials.extend(bridge_policies::trials());
    trials.extend(capture::trials());
    trials.extend(control::trials());
    trials.extend(mux::trials());
    trials.extend(namespace::trials());
    trials.extend(profile::trials());
    trials.extend(endpoint::trials());
    trials.extend(endpoint_errors::trials());
    trials.extend(holders::trials());
    trials.extend(host_sysrq::trials());
    trials.extend(exec::trials());
    trials.extend(faults::trials());
    trials.extend(firewall::trials());
    trials.extend(helper::trials());
    trials.extend(helper_bridge::trials());
    trials.extend(ssh_hosts::trials());
    trials.extend(ssh_passwords::trials());
    trials.extend(ssh_probe::trials());
    trials.extend(pty::trials());
    trials.extend(joined::trials());
    trials.extend(lost_output::trials());
    trials.extend(tty::trials());
    trials.extend(terminal_panic::trials());
    trials.extend(e2e_bridge::trials());
    trials.extend(demo::trials());
    trials.extend(e2e_debug::trials());
    trials.extend(e2e_shared::trials());
    trials.extend(e2e_again::trials());
    trials.extend(setup_hyperv::trials());
    trials.extend(e2e_own::trials());
    trials.extend(e2e_reset::trials());
    trials.extend(setup_vmware::trials());
    trials.extend(setup_helper::trials());
    trials.extend(setup_helper_far::trials());
    trials.extend(setup_qemu::trials());
    trials.extend(plan_apply::trials());
    trials.extend(powershell::trials());
    trials.extend(telnet::trials());
    trials.extend(telnet_peers::trials());
    trials.extend(wine::trials());
    trials.extend(guest_bad::trials());
    trials.extend(guest_linux::trials());
    trials.extend(guest_serial::trials());
    trials.extend(guest_stage::trials());
    trials.extend(guest_trees::trials());
    trials.extend(guest_windows::trials());
    trials.extend(xen::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
