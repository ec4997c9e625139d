//! What Hyper-V's cmdlets throw.

use std::io;

/// What a cmdlet throws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `$_.Exception.Message`.
    pub message: String,
    /// `$_.FullyQualifiedErrorId`.
    pub id: String,
    /// `$_.CategoryInfo.Category`.
    pub category: String,
}

impl Refusal {
    fn of(message: impl Into<String>, id: impl Into<String>, category: &str) -> Self {
        Self {
            message: message.into(),
            id: id.into(),
            category: category.to_owned(),
        }
    }

    pub(super) fn no_vm(word: &str) -> Self {
        Self::of(
            format!("Hyper-V was unable to find a virtual machine with id \"{word}\"."),
            "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM",
            "InvalidArgument",
        )
    }

    pub(super) fn state(command: &str) -> Self {
        Self::of(
            "The operation cannot be performed while the virtual machine is in its current state.",
            format!("InvalidState,Microsoft.HyperV.PowerShell.Commands.{command}"),
            "InvalidOperation",
        )
    }

    pub(super) fn not_permitted(command: &str) -> Self {
        Self::of(
            "You do not have the required permission to complete this task. Contact the administrator of the authorization policy for the computer 'STANDIN'.",
            format!("Unspecified,Microsoft.HyperV.PowerShell.Commands.{command}"),
            "PermissionDenied",
        )
    }

    pub(super) fn access_denied(command: &str) -> Self {
        Self::of(
            "Access is denied.",
            format!("AccessDenied,Microsoft.HyperV.PowerShell.Commands.{command}"),
            "PermissionDenied",
        )
    }

    pub(super) fn no_module() -> Self {
        Self::of(
            "The module 'Hyper-V' could not be loaded. For more information, run 'Import-Module Hyper-V'.",
            "CouldNotAutoLoadModule",
            "ObjectNotFound",
        )
    }

    pub(super) fn no_com(number: u64) -> Self {
        Self::of(
            format!("Cannot validate argument on parameter 'Number'. The argument {number} is out of range."),
            "ParameterArgumentValidationError,Microsoft.HyperV.PowerShell.Commands.GetVMComPort",
            "InvalidData",
        )
    }

    pub(super) fn question() -> Self {
        Self::of(
            "Windows PowerShell is in NonInteractive mode. Read and Prompt functionality is not available.",
            "InvalidOperation,Microsoft.HyperV.PowerShell.Commands.StopVM",
            "InvalidOperation",
        )
    }

    pub(super) fn no_shutdown(name: &str) -> Self {
        Self::of(
            format!(
                "Failed to shut down virtual machine '{name}' because it does not have the shutdown integration service."
            ),
            "OperationFailed,Microsoft.HyperV.PowerShell.Commands.StopVM",
            "ResourceUnavailable",
        )
    }

    pub(super) fn pipe_in_use(name: &str) -> Self {
        Self::of(
            format!("'{name}' failed to start. The named pipe of its serial port is already in use."),
            "OperationFailed,Microsoft.HyperV.PowerShell.Commands.StartVM",
            "ResourceExists",
        )
    }

    pub(super) fn no_guest(message: String) -> Self {
        Self::of(message, "VmserialNoGuest", "InvalidOperation")
    }

    pub(super) fn credential() -> Self {
        Self::of("The credential is invalid.", "PSDirectException", "OpenError")
    }

    pub(super) fn changed(message: String) -> Self {
        Self::of(message, "VmserialChanged", "InvalidOperation")
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::of(error.to_string(), "StandIn", "ReadError")
    }
}
