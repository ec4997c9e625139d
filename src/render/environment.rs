//! The one template environment: strict, without guessed escaping, with one quoting filter per language.

use crate::model::base64;
use crate::render::{quote, xl_cfg};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Serialize;

/// The templates, by the name that code uses. They are part of the program, so none can be missing at run time.
pub const TEMPLATES: &[(&str, &str)] = &[
    (
        "gdb/session.gdb",
        include_str!("../../templates/gdb/session.gdb.j2"),
    ),
    (
        "guest/grub-default.cfg",
        include_str!("../../templates/guest/grub-default.cfg.j2"),
    ),
    (
        "guest/grub-entry.cfg",
        include_str!("../../templates/guest/grub-entry.cfg.j2"),
    ),
    (
        "guest/loader-entry.conf",
        include_str!("../../templates/guest/loader-entry.conf.j2"),
    ),
    (
        "powershell/envelope.ps1",
        include_str!("../../templates/powershell/envelope.ps1.j2"),
    ),
    (
        "powershell/host/helper.ps1",
        include_str!("../../templates/powershell/host/helper.ps1.j2"),
    ),
    (
        "powershell/host/make-folder.ps1",
        include_str!("../../templates/powershell/host/make-folder.ps1.j2"),
    ),
    (
        "powershell/host/put-file.ps1",
        include_str!("../../templates/powershell/host/put-file.ps1.j2"),
    ),
    (
        "powershell/host/read-file.ps1",
        include_str!("../../templates/powershell/host/read-file.ps1.j2"),
    ),
    (
        "powershell/host/versions.ps1",
        include_str!("../../templates/powershell/host/versions.ps1.j2"),
    ),
    (
        "powershell/host/write-part.ps1",
        include_str!("../../templates/powershell/host/write-part.ps1.j2"),
    ),
    (
        "powershell/hyperv/doctor.ps1",
        include_str!("../../templates/powershell/hyperv/doctor.ps1.j2"),
    ),
    (
        "powershell/hyperv/observe.ps1",
        include_str!("../../templates/powershell/hyperv/observe.ps1.j2"),
    ),
    (
        "powershell/hyperv/power.ps1",
        include_str!("../../templates/powershell/hyperv/power.ps1.j2"),
    ),
    (
        "powershell/hyperv/run-in-guest.ps1",
        include_str!("../../templates/powershell/hyperv/run-in-guest.ps1.j2"),
    ),
    (
        "powershell/hyperv/set-com-port.ps1",
        include_str!("../../templates/powershell/hyperv/set-com-port.ps1.j2"),
    ),
    (
        "powershell/hyperv/set-secure-boot.ps1",
        include_str!("../../templates/powershell/hyperv/set-secure-boot.ps1.j2"),
    ),
    (
        "powershell/hyperv/start-vm.ps1",
        include_str!("../../templates/powershell/hyperv/start-vm.ps1.j2"),
    ),
    (
        "powershell/hyperv/stop-vm.ps1",
        include_str!("../../templates/powershell/hyperv/stop-vm.ps1.j2"),
    ),
    (
        "powershell/windows/program.ps1",
        include_str!("../../templates/powershell/windows/program.ps1.j2"),
    ),
    (
        "powershell/windows/run.ps1",
        include_str!("../../templates/powershell/windows/run.ps1.j2"),
    ),
    (
        "qemu/readconfig.cfg",
        include_str!("../../templates/qemu/readconfig.cfg.j2"),
    ),
    (
        "vmware/gdbstub.vmx",
        include_str!("../../templates/vmware/gdbstub.vmx.j2"),
    ),
    (
        "vmware/nested.vmx",
        include_str!("../../templates/vmware/nested.vmx.j2"),
    ),
    (
        "vmware/serial.vmx",
        include_str!("../../templates/vmware/serial.vmx.j2"),
    ),
    (
        "xen/serial.cfg",
        include_str!("../../templates/xen/serial.cfg.j2"),
    ),
];

/// A template could not be rendered: a value has no spelling in the target language, or a template is wrong.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{template}`")]
pub struct RenderError {
    /// Which template.
    pub template: String,
    /// Why. Its debug form names all variables; only its one-line display is ever printed.
    #[source]
    pub source: Error,
}

/// Renders a template with a typed context.
///
/// # Errors
///
/// Fails when a value cannot be written in the template's language (a line break in a `.vmx` value), which is the
/// user's to mend, or when the template is wrong, which a test excludes.
pub fn render(name: &str, context: &impl Serialize) -> Result<String, RenderError> {
    let failed = |source| RenderError {
        template: name.to_owned(),
        source,
    };
    environment()
        .get_template(name)
        .map_err(failed)?
        .render(Value::from(Serde(context)))
        .map_err(failed)
}

/// Renders a text that is no template of its own, a part of one, as strictly.
///
/// # Errors
///
/// As [`render`].
pub(super) fn render_part(name: &str, text: &str, context: &impl Serialize) -> Result<String, RenderError> {
    environment()
        .render_named_str(name, text, Value::from(Serde(context)))
        .map_err(|source| RenderError {
            template: name.to_owned(),
            source,
        })
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // By default the file's ending would choose HTML or JSON escaping for some templates and none for others.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(syntax());
    environment.add_filter("base64_json", |value: Value| base64_json(&value));
    environment.add_filter("digits", |text: String| invalid(quote::digits(&text)));
    environment.add_filter("gdb", |text: String| invalid(quote::gdb_word(&text)));
    environment.add_filter("gdb_address", |text: String| invalid(quote::gdb_address(&text)));
    environment.add_filter("grub", |text: String| invalid(quote::grub_word(&text)));
    environment.add_filter("kernel_arguments", |text: String| {
        invalid(quote::kernel_arguments(&text))
    });
    environment.add_filter("one_line", |text: String| invalid(quote::one_line(&text)));
    environment.add_filter("ps", |value: Value| ps(&value));
    environment.add_filter("ps_word", |text: String| {
        invalid(quote::powershell_argument(&text))
    });
    environment.add_filter("qemu_config", |text: String| {
        invalid(quote::qemu_config_value(&text))
    });
    environment.add_filter("sh", |text: String| invalid(quote::shell_word(&text)));
    // A value that was taken apart and put together by the editor; anything that is not exactly one is refused.
    environment.add_filter("xl_value", |text: String| {
        xl_cfg::check_value(&text)
            .map(|()| text)
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    });
    environment.add_filter("vmx", |text: String| invalid(quote::vmx_value(&text)));
    for (name, source) in TEMPLATES {
        environment
            .add_template(name, source)
            .expect("every template is compiled by a test");
    }
    environment
}

/// A final line break belongs to the text, and a block tag on a line of its own leaves no line behind.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("only white space is configured, which cannot clash")
}

/// Writes a value as JSON in base64: nothing in it can be more than a value. Each text has a `=` before it, so that it looks
/// like no date to PowerShell 7; the envelope takes it off.
fn base64_json(value: &Value) -> Result<String, Error> {
    let failed = |error: serde_json::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let mut json = serde_json::to_value(value).map_err(failed)?;
    mark_texts(&mut json);
    Ok(base64::encode(json.to_string().as_bytes()))
}

fn mark_texts(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => text.insert(0, '='),
        serde_json::Value::Array(list) => list.iter_mut().for_each(mark_texts),
        serde_json::Value::Object(map) => map.values_mut().for_each(mark_texts),
        _ => {}
    }
}

/// Writes a value as PowerShell does: numbers, `$true` and `$null` as they are, lists with commas, text quoted.
fn ps(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Ok("$null".to_owned()),
        ValueKind::Bool => Ok(format!("${value}")),
        ValueKind::Number => Ok(value.to_string()),
        ValueKind::Seq => {
            let items: Result<Vec<String>, Error> = value.try_iter()?.map(|item| ps(&item)).collect();
            items.map(|items| format!("@({})", items.join(", ")))
        }
        _ => match value.as_str() {
            Some(text) => invalid(quote::powershell_word(text)),
            None => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("PowerShell is shown no value like {value}"),
            )),
        },
    }
}

fn invalid(result: Result<String, quote::QuoteError>) -> Result<String, Error> {
    result.map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_compiles() {
        let environment = environment();
        assert_eq!(environment.templates().count(), TEMPLATES.len());
    }

    #[test]
    fn every_value_passes_a_quoting_filter() {
        for (name, source) in TEMPLATES {
            for (line, text) in source.lines().enumerate() {
                for expression in text.split("{{").skip(1) {
                    let expression = expression.split("}}").next().unwrap_or_default();
                    assert!(
                        expression.contains('|'),
                        "{name}:{}: `{expression}` has no filter",
                        line + 1
                    );
                }
            }
        }
    }

    #[test]
    fn an_unknown_variable_is_an_error() {
        let mut environment = environment();
        environment
            .add_template("t", "{{ nope | sh }}")
            .expect("it compiles");
        assert!(
            environment
                .get_template("t")
                .and_then(|template| template.render(()))
                .is_err()
        );
    }
}
