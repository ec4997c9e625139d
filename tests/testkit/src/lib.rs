//! Fake hypervisor ends, stand-ins and the fault kit of vmserial's tests.
