# The demo's script: a breakpoint in a kernel function, a backtrace with source lines, and on.
echo \n== breakpoint in the kernel's openat ==\n
tbreak do_sys_openat2
continue
echo \n== backtrace ==\n
backtrace 4
echo \n== source ==\n
list
echo \n== one step, then on ==\n
stepi
info registers rip
detach
echo \n== the kernel runs on: its console answers ==\n
shell printf 'uname -sr; cat /proc/uptime\r' | vmserial console demo --replay 0B --linger 700ms
