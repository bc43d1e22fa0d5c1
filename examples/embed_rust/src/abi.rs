//! The part of mambasdk.h that this program uses, by hand. Tables of the C ABI only grow at the end, so a declaration may
//! stop at the last slot that it needs; slots between that are not called are untyped.
#![allow(non_camel_case_types)]
use std::os::raw::{c_char, c_void};

pub const ABI_MAJOR: u32 = 1;
pub const ABI_MINOR: u32 = 0;

macro_rules! opaque {
    ($($name:ident),*) => { $(#[repr(C)] pub struct $name { _private: [u8; 0] })* };
}
opaque!(status, model, session, tokenizer, sampler);

/// A function that this program does not call.
type Unused = *const c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct string {
    pub data: *const c_char,
    pub size: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct tensor {
    pub data: *mut c_void,
    pub device_type: i32,
    pub device_index: i32,
    pub ndim: i32,
    pub dtype_code: u8,
    pub dtype_bits: u8,
    pub dtype_lanes: u16,
    pub shape: *mut i64,
    pub strides: *mut i64,
    pub byte_offset: u64,
}

#[repr(C)]
pub struct managed_tensor {
    pub dlpack_major: u32,
    pub dlpack_minor: u32,
    pub manager: *mut c_void,
    pub deleter: unsafe extern "C" fn(*mut managed_tensor),
    pub flags: u64,
    pub tensor: tensor,
}

#[repr(C)]
pub struct named_tensor {
    pub name: string,
    pub tensor: *const tensor,
}

#[repr(C)]
pub struct load_options {
    pub struct_size: u64,
    pub verify_files: i32,
    pub reserved: i32,
}

#[repr(C)]
pub struct api {
    pub struct_size: u64,
    pub abi_major: u32,
    pub abi_minor: u32,

    pub status_code: unsafe extern "C" fn(*const status) -> i32,
    pub status_message: unsafe extern "C" fn(*const status) -> string,
    pub status_origin: Unused,
    pub status_create: Unused,
    pub status_release: unsafe extern "C" fn(*mut status),

    pub version: Unused,
    pub isa_detected: Unused,
    pub isa_active: Unused,
    pub set_max_isa: Unused,
    pub set_num_threads: Unused,
    pub num_threads: Unused,

    pub op_list: Unused,
    pub op_find: Unused,
    pub op_describe: Unused,
    pub op_plan: Unused,
    pub op_call: Unused,

    pub plugin_load: Unused,
    pub register_op: Unused,
    pub register_kernel: Unused,

    pub model_load: unsafe extern "C" fn(string, *const load_options, *mut *mut model) -> *mut status,
    pub model_release: unsafe extern "C" fn(*mut model),
    pub model_describe: unsafe extern "C" fn(*const model) -> string,
    pub session_create: unsafe extern "C" fn(*const model, *const c_void, *mut *mut session) -> *mut status,
    pub session_release: unsafe extern "C" fn(*mut session),
    pub session_run: unsafe extern "C" fn(
        *mut session,
        *const named_tensor,
        u64,
        *const string,
        u64,
        *mut *mut managed_tensor,
    ) -> *mut status,
    pub session_reset: Unused,
    pub session_clone: Unused,
    pub session_save: unsafe extern "C" fn(*const session, *mut c_void, u64, *mut u64) -> *mut status,
    pub session_restore: unsafe extern "C" fn(*mut session, *const c_void, u64) -> *mut status,

    pub tokenizer_load: Unused,
    pub tokenizer_of_model: unsafe extern "C" fn(*const model, *mut *mut tokenizer) -> *mut status,
    pub tokenizer_release: unsafe extern "C" fn(*mut tokenizer),
    pub tokenizer_vocab_size: Unused,
    pub tokenizer_encode:
        unsafe extern "C" fn(*const tokenizer, string, i32, *mut i32, u64, *mut u64) -> *mut status,
    pub tokenizer_decode: Unused,
    pub sampler_create: unsafe extern "C" fn(*const c_void, *mut *mut sampler) -> *mut status,
    pub sampler_release: unsafe extern "C" fn(*mut sampler),
    pub sampler_sample: unsafe extern "C" fn(*mut sampler, *const f32, u64, *mut i32) -> *mut status,
}

extern "C" {
    pub fn mambasdk_get_api(abi_major: u32, abi_minor: u32) -> *const api;
}
