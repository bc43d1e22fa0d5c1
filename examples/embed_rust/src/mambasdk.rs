//! A safe face over the C ABI: handles that release themselves, statuses as `Result`.
use crate::abi;
use std::{fmt, marker::PhantomData, mem, ptr, slice};

#[derive(Debug)]
pub struct Error {
    pub code: i32, // MAMBASDK_ERROR_*; 0: this program's own
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.message)
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// The library's table of functions; it lives as long as the process.
#[derive(Clone, Copy)]
pub struct Api(&'static abi::api);

impl Api {
    pub fn new() -> Result<Api> {
        let table = unsafe { abi::mambasdk_get_api(abi::ABI_MAJOR, abi::ABI_MINOR) };
        match unsafe { table.as_ref() } {
            Some(table) if table.struct_size as usize >= mem::size_of::<abi::api>() => Ok(Api(table)),
            _ => Err(Error { code: 0, message: "libmambasdk is older than this program; install a newer one".into() }),
        }
    }

    fn check(self, status: *mut abi::status) -> Result<()> {
        if status.is_null() {
            return Ok(());
        }
        unsafe {
            let message = to_str((self.0.status_message)(status)).to_owned();
            let code = (self.0.status_code)(status);
            (self.0.status_release)(status);
            Err(Error { code, message })
        }
    }
}

fn to_c(text: &str) -> abi::string {
    abi::string { data: text.as_ptr().cast(), size: text.len() as u64 }
}

/// The text must outlive what is done with the result.
unsafe fn to_str<'a>(text: abi::string) -> &'a str {
    std::str::from_utf8(slice::from_raw_parts(text.data.cast(), text.size as usize)).unwrap_or("(not UTF-8)")
}

/// A model package; immutable, so threads may share it.
pub struct Model {
    api: Api,
    handle: *mut abi::model,
}
unsafe impl Send for Model {}
unsafe impl Sync for Model {}

impl Model {
    pub fn load(api: Api, directory: &str) -> Result<Model> {
        let options =
            abi::load_options { struct_size: mem::size_of::<abi::load_options>() as u64, verify_files: 1, reserved: 0 };
        let mut handle = ptr::null_mut();
        api.check(unsafe { (api.0.model_load)(to_c(directory), &options, &mut handle) })?;
        Ok(Model { api, handle })
    }

    /// JSON: the manifest, inputs, outputs, states.
    pub fn description(&self) -> &str {
        unsafe { to_str((self.api.0.model_describe)(self.handle)) }
    }

    pub fn encode(&self, text: &str) -> Result<Vec<i32>> {
        let api = self.api;
        let mut tokenizer = ptr::null_mut();
        api.check(unsafe { (api.0.tokenizer_of_model)(self.handle, &mut tokenizer) })?;
        let mut ids = Vec::new();
        let mut count = 0;
        let encoded = (0..2).try_for_each(|_| {
            ids.resize(count as usize, 0); // the first call only counts
            api.check(unsafe {
                (api.0.tokenizer_encode)(tokenizer, to_c(text), 1, ids.as_mut_ptr(), ids.len() as u64, &mut count)
            })
        });
        unsafe { (api.0.tokenizer_release)(tokenizer) };
        encoded.map(|()| ids)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { (self.api.0.model_release)(self.handle) }
    }
}

/// One sequence in progress, continued greedily. May move to another thread, but serves one at a time.
pub struct Session<'model> {
    api: Api,
    handle: *mut abi::session,
    sampler: *mut abi::sampler,
    model: PhantomData<&'model Model>,
}
unsafe impl Send for Session<'_> {}

impl<'model> Session<'model> {
    pub fn new(model: &'model Model) -> Result<Session<'model>> {
        let api = model.api;
        let mut made = Session { api, handle: ptr::null_mut(), sampler: ptr::null_mut(), model: PhantomData };
        api.check(unsafe { (api.0.session_create)(model.handle, ptr::null(), &mut made.handle) })?;
        api.check(unsafe { (api.0.sampler_create)(ptr::null(), &mut made.sampler) })?;
        Ok(made)
    }

    /// Feeds tokens and gives the likeliest one after them.
    pub fn next_token(&mut self, tokens: &[i32]) -> Result<i32> {
        let mut shape = [1, tokens.len() as i64];
        let input = abi::tensor {
            data: tokens.as_ptr().cast_mut().cast(), // (1, count); inputs are only read
            device_type: 1,
            device_index: 0,
            ndim: 2,
            dtype_code: 0,
            dtype_bits: 32,
            dtype_lanes: 1,
            shape: shape.as_mut_ptr(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        };
        let named = abi::named_tensor { name: to_c("tokens"), tensor: &input };
        let wanted = to_c("last_logits");
        let mut logits = ptr::null_mut(); // (1, vocabulary)
        self.api.check(unsafe { (self.api.0.session_run)(self.handle, &named, 1, &wanted, 1, &mut logits) })?;
        let mut token = 0;
        unsafe {
            let view = &(*logits).tensor;
            let vocabulary = *view.shape.add(view.ndim as usize - 1) as u64;
            let sampled = (self.api.0.sampler_sample)(self.sampler, view.data.cast(), vocabulary, &mut token);
            ((*logits).deleter)(logits);
            self.api.check(sampled)?;
        }
        Ok(token)
    }

    pub fn save(&self) -> Result<Vec<u8>> {
        let mut image = Vec::new();
        let mut size = 0;
        for _ in 0..2 {
            image.resize(size as usize, 0); // the first call only asks for the size
            let data = if image.is_empty() { ptr::null_mut() } else { image.as_mut_ptr().cast() };
            self.api.check(unsafe { (self.api.0.session_save)(self.handle, data, image.len() as u64, &mut size) })?;
        }
        Ok(image)
    }

    pub fn restore(&mut self, image: &[u8]) -> Result<()> {
        self.api.check(unsafe { (self.api.0.session_restore)(self.handle, image.as_ptr().cast(), image.len() as u64) })
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        unsafe {
            if !self.sampler.is_null() {
                (self.api.0.sampler_release)(self.sampler);
            }
            if !self.handle.is_null() {
                (self.api.0.session_release)(self.handle);
            }
        }
    }
}
