# A Hyper-V module for tests on a real PowerShell without Hyper-V, found through PSModulePath. Its host is the JSON file in
# VMSERIAL_STUB_HYPERV, of the form that tests/testkit/src/hyperv/host.rs writes. It has what vmserial's scripts use.

function Read-State {
    ConvertFrom-Json -InputObject ([IO.File]::ReadAllText($env:VMSERIAL_STUB_HYPERV))
}

function Write-State {
    param($Data)
    [IO.File]::WriteAllText($env:VMSERIAL_STUB_HYPERV, (ConvertTo-Json -InputObject $Data -Depth 8))
}

# Changes one VM of the file.
function Edit-State {
    param($Id, $Change)
    $data = Read-State
    foreach ($vm in @($data.vms)) {
        if ([guid]$vm.id -eq [guid]$Id) {
            & $Change $vm
        }
    }
    Write-State -Data $data
}

function Stop-Here {
    param($Message, $Id, $Category)
    $exception = New-Object -TypeName InvalidOperationException -ArgumentList $Message
    throw (New-Object -TypeName Management.Automation.ErrorRecord -ArgumentList $exception, $Id, $Category, $null)
}

function Get-VM {
    [CmdletBinding()]
    param([guid] $Id)
    $all = @(foreach ($vm in @((Read-State).vms)) {
        [pscustomobject]@{
            Id = [guid]$vm.id
            Name = $vm.name
            State = $vm.state
            Generation = $vm.generation
        }
    })
    if (-not $PSBoundParameters.ContainsKey('Id')) {
        return $all
    }
    $found = @($all | Where-Object -FilterScript { $_.Id -eq $Id })
    if ($found.Count -eq 0) {
        Stop-Here -Message "Hyper-V was unable to find a virtual machine with id `"$Id`"." -Id 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM' -Category 'InvalidArgument'
    }
    $found[0]
}

function Get-VMComPort {
    [CmdletBinding()]
    param($VM, [int] $Number)
    foreach ($vm in @($VM)) {
        $stored = @((Read-State).vms | Where-Object -FilterScript { [guid]$_.id -eq $vm.Id })[0]
        for ($index = 0; $index -lt $stored.com.Count; $index += 1) {
            if ($Number -eq 0 -or $Number -eq $index + 1) {
                [pscustomobject]@{
                    VMId = $vm.Id
                    VMName = $vm.Name
                    Id = "Microsoft:$($vm.Id)\8E3A359F-559A-4B6A-98A9-1690A6100ED7\$index"
                    Path = $stored.com[$index].path
                    DebuggerMode = $stored.com[$index].debugger_mode
                }
            }
        }
    }
}

function Set-VMComPort {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param($VM, [int] $Number, [string] $Path, [string] $DebuggerMode)
    if ($VM.State -ne 'Off') {
        Stop-Here -Message 'The operation cannot be performed while the virtual machine is in its current state.' -Id 'InvalidState,Microsoft.HyperV.PowerShell.Commands.SetVMComPort' -Category 'InvalidOperation'
    }
    $change = {
        param($stored)
        $stored.com[$Number - 1].path = $Path
        $stored.com[$Number - 1].debugger_mode = $DebuggerMode
    }
    Edit-State -Id $VM.Id -Change $change
}

function Get-VMFirmware {
    [CmdletBinding()]
    param($VM)
    $stored = @((Read-State).vms | Where-Object -FilterScript { [guid]$_.id -eq $VM.Id })[0]
    [pscustomobject]@{
        SecureBoot = $stored.secure_boot
        SecureBootTemplate = $stored.secure_boot_template
    }
}

function Get-VMSecurity {
    [CmdletBinding()]
    param($VM)
    $stored = @((Read-State).vms | Where-Object -FilterScript { [guid]$_.id -eq $VM.Id })[0]
    [pscustomobject]@{
        TpmEnabled = [bool]$stored.tpm
    }
}

function Set-VMFirmware {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param($VM, [string] $EnableSecureBoot, [string] $SecureBootTemplate)
    $change = {
        param($stored)
        $stored.secure_boot = $EnableSecureBoot
        if ($SecureBootTemplate -ne '') {
            $stored.secure_boot_template = $SecureBootTemplate
        }
    }
    Edit-State -Id $VM.Id -Change $change
}

function Start-VM {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param($VM)
    Edit-State -Id $VM.Id -Change { param($stored) $stored.state = 'Running' }
}

function Stop-VM {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param($VM, [switch] $TurnOff, [switch] $Force)
    Edit-State -Id $VM.Id -Change { param($stored) $stored.state = 'Off' }
}

Export-ModuleMember -Function Get-VM, Get-VMComPort, Set-VMComPort, Get-VMFirmware, Set-VMFirmware, Get-VMSecurity, Start-VM, Stop-VM
