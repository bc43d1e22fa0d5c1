/* The C ABI of mambasdk. The only thing that crosses a shared-library boundary.
 *
 * One exported function, mambasdk_get_api, returns a table of functions. Rules (docs/abi.md):
 *  - tables and argument structs start with their size and only grow at the end; read no slot beyond struct_size;
 *  - same major, and a minor at least as large as the one asked for, is compatible;
 *  - text is UTF-8 as pointer and length; integers have fixed widths;
 *  - a call returns NULL on success, else a status that the caller releases; outputs are untouched on failure;
 *  - inputs are borrowed for the call; models are immutable and may be shared by threads; a session, a sampler and a
 *    generation belong to one thread at a time.
 */
#ifndef MAMBASDK_MAMBASDK_H_
#define MAMBASDK_MAMBASDK_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define MAMBASDK_EXPORT __declspec(dllexport)
#else
#define MAMBASDK_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MAMBASDK_ABI_MAJOR 1
#define MAMBASDK_ABI_MINOR 2

/* ---- basic types ---- */

typedef struct mambasdk_string {
  const char* data; /* not zero-terminated */
  uint64_t size;
} mambasdk_string;

typedef struct mambasdk_status mambasdk_status;

enum {
  MAMBASDK_ERROR_INVALID_ARGUMENT = 1, /* wrong shape, dtype, device or value */
  MAMBASDK_ERROR_NOT_FOUND = 2,        /* no such file, operation, plugin or tensor */
  MAMBASDK_ERROR_UNSUPPORTED = 3,      /* valid, but nothing here can do it */
  MAMBASDK_ERROR_CORRUPT = 4,          /* a file is damaged or hostile */
  MAMBASDK_ERROR_VERSION = 5,          /* made for a newer or foreign version */
  MAMBASDK_ERROR_IO = 6,               /* the operating system refused */
  MAMBASDK_ERROR_CANCELLED = 7,
  MAMBASDK_ERROR_OUT_OF_MEMORY = 8,
  MAMBASDK_ERROR_INTERNAL = 9
};

/* DLPack's DLDevice, DLDataType and DLTensor, byte for byte. */
typedef struct mambasdk_device {
  int32_t type; /* DLPack's: 1 CPU, 2 CUDA, …, 12 a device of a plugin's own; below 32 */
  int32_t index;
} mambasdk_device;

typedef struct mambasdk_dtype {
  uint8_t code; /* 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool */
  uint8_t bits;
  uint16_t lanes; /* 1 */
} mambasdk_dtype;

typedef struct mambasdk_tensor {
  void* data;
  mambasdk_device device;
  int32_t ndim;
  mambasdk_dtype dtype;
  int64_t* shape;
  int64_t* strides; /* in elements; NULL: row-major contiguous */
  uint64_t byte_offset;
} mambasdk_tensor;

/* DLPack's DLManagedTensorVersioned (1.x), byte for byte: a tensor that owns its memory. */
typedef struct mambasdk_managed_tensor {
  uint32_t dlpack_major;
  uint32_t dlpack_minor;
  void* manager;
  void (*deleter)(struct mambasdk_managed_tensor* self);
  uint64_t flags;
  mambasdk_tensor tensor;
} mambasdk_managed_tensor;

/* ---- execution context: where a call runs. Zero members and a NULL context mean the runtime's own: the device of the
 * tensors (for a session: the CPU), its default stream (for a session: one of its own), its memory. ---- */

typedef void (*mambasdk_range_fn)(void* arg, int64_t begin, int64_t end);

typedef struct mambasdk_context {
  uint64_t struct_size;
  mambasdk_device device;
  void* stream; /* the device's own handle (a cudaStream_t); work is put on it in order and nobody waits for it */
  void* user;
  /* Runs fn over disjoint ranges that cover [0, n), each of at least `grain` items (the last may be shorter);
   * returns when all are done. Results never depend on how the ranges fall. */
  void (*parallel_for)(void* user, int64_t n, int64_t grain, mambasdk_range_fn fn, void* arg);
  /* Scratch memory on `device`, for work that is put on `stream`; NULL: none left. What is released may still be used
   * by work that is on the stream by then. */
  void* (*allocate)(void* user, uint64_t bytes, uint64_t alignment);
  void (*release)(void* user, void* data, uint64_t bytes);
  int32_t (*is_cancelled)(void* user); /* non-zero stops at the next opportunity with MAMBASDK_ERROR_CANCELLED */
} mambasdk_context;

/* ---- operations ---- */

typedef struct mambasdk_op mambasdk_op;

enum {
  MAMBASDK_VALUE_NONE = 0,
  MAMBASDK_VALUE_TENSOR = 1,
  MAMBASDK_VALUE_BOOL = 2,
  MAMBASDK_VALUE_INT = 3,
  MAMBASDK_VALUE_FLOAT = 4
};

/* One argument, in signature order. NONE: an absent optional tensor, or a scalar's default. */
typedef struct mambasdk_value {
  int32_t kind;
  int32_t reserved;
  union {
    const mambasdk_tensor* tensor;
    int64_t integer; /* also bool: 0 or 1 */
    double real;
  } as;
} mambasdk_value;

/* Shape and dtype of one output. An output that its condition switches off has present == 0, ndim == 1, shape[0] == 0.
 */
#define MAMBASDK_MAX_DIMS 8
typedef struct mambasdk_output_plan {
  mambasdk_dtype dtype;
  int32_t ndim;
  int32_t present;
  int32_t reserved;
  int64_t shape[MAMBASDK_MAX_DIMS];
} mambasdk_output_plan;

enum { MAMBASDK_KERNEL_AUTOMATIC = 0, MAMBASDK_KERNEL_REFERENCE = 1 };

/* What a kernel is given: checked arguments and allocated, contiguous outputs, all on the context's device. A check may
 * not follow pointers to another device than the CPU; the device's kernel has the values to itself. */
typedef struct mambasdk_op_call {
  uint64_t struct_size;
  const mambasdk_context* context; /* never NULL; every function in it is set */
  const mambasdk_value* inputs;    /* scalars are filled in, never NONE */
  uint64_t input_count;
  const mambasdk_tensor* outputs; /* an absent output has data == NULL */
  uint64_t output_count;
  const int64_t* dims; /* in order of first appearance in the signature */
  uint64_t dim_count;
} mambasdk_op_call;

typedef mambasdk_status* (*mambasdk_kernel_fn)(void* self, const mambasdk_op_call* call);

/* ---- models, sessions, text ---- */

typedef struct mambasdk_model mambasdk_model;
typedef struct mambasdk_session mambasdk_session;
typedef struct mambasdk_tokenizer mambasdk_tokenizer;
typedef struct mambasdk_sampler mambasdk_sampler;
typedef struct mambasdk_text_stream mambasdk_text_stream;

typedef struct mambasdk_named_tensor {
  mambasdk_string name;
  const mambasdk_tensor* tensor;
} mambasdk_named_tensor;

/* How a package's files are compared with its manifest when it is loaded. */
enum {
  MAMBASDK_VERIFY_AUTOMATIC = 0, /* files that were not compared since they last changed */
  MAMBASDK_VERIFY_OFF = 1,       /* names and sizes only */
  MAMBASDK_VERIFY_ALL = 2        /* every file's SHA-256, as a non-zero verify_files */
};

typedef struct mambasdk_load_options {
  uint64_t struct_size;
  int32_t verify_files; /* non-zero: check every file's SHA-256 before use */
  int32_t reserved;
  /* Since 1.2; zeros are the defaults. */
  int32_t verify;      /* MAMBASDK_VERIFY_*; a non-zero verify_files overrules it */
  int32_t allow_code;  /* non-zero: machine code inside the package may be executed, by an engine such as aoti */
  uint64_t max_memory; /* bytes for the weights that the package computes at load, and for the states and activations
                          of each session; 0: three quarters of the memory that this process may use */
} mambasdk_load_options;

/* Bytes that a session uses (since 1.2). The first two are the model's, which its sessions share. */
typedef struct mambasdk_session_memory {
  uint64_t struct_size;
  uint64_t mapped_weights;   /* read where they lie in the package's files */
  uint64_t prepared_weights; /* computed at load, as matrices in the layout of products */
  uint64_t states;           /* both sides of each; 0 before the first run */
  uint64_t arena;            /* activations, of every combination of shapes whose plan is kept */
} mambasdk_session_memory;

typedef struct mambasdk_sampler_options {
  uint64_t struct_size;
  double temperature;        /* 0: greedy */
  double top_p;              /* 1: off */
  double min_p;              /* 0: off */
  double repetition_penalty; /* 1: off */
  int64_t top_k;             /* 0: off */
  uint64_t seed;
} mambasdk_sampler_options;

/* Gets text as it is generated, always whole UTF-8 characters; non-zero stops. Since 1.2, MAMBASDK_TEXT_FAILED makes
 * the call fail with MAMBASDK_ERROR_CANCELLED too, and leaves the session as it was. */
#define MAMBASDK_TEXT_FAILED INT32_MIN
typedef int32_t (*mambasdk_text_fn)(void* user, mambasdk_string text);

typedef struct mambasdk_generate_options {
  uint64_t struct_size;
  const mambasdk_sampler_options* sampler; /* NULL: greedy */
  int64_t max_new_tokens;
  const mambasdk_string* stop; /* generation ends before the first of these */
  uint64_t stop_count;
  mambasdk_text_fn on_text; /* may be NULL */
  void* user;
} mambasdk_generate_options;

typedef struct mambasdk_generate_result {
  uint64_t struct_size;
  int64_t prompt_tokens;
  int64_t new_tokens;
  double prefill_seconds;
  double decode_seconds;
} mambasdk_generate_result;

/* ---- plugins: a shared library that exports `mambasdk_plugin`, a mambasdk_plugin_fn ---- */

typedef struct mambasdk_registrar mambasdk_registrar;
struct mambasdk_api;

typedef struct mambasdk_plugin_descriptor {
  uint64_t struct_size;
  uint32_t abi_major;
  uint32_t abi_minor; /* the least that this plugin needs */
  mambasdk_string name;
  mambasdk_string version;
  mambasdk_string requires_isa; /* "" or "avx2", "avx512", … : refused on a lesser machine */
  /* Registers through the api's register_* slots. Nothing is visible before it returns NULL. */
  mambasdk_status* (*initialize)(const struct mambasdk_api* api, mambasdk_registrar* registrar);
  /* Since 1.1. Ranges of versions such as ">=2.10,<3"; "": no need. Checked against what the host declared
   * (component_declare); a need that the host does not have refuses the plugin before initialize. */
  mambasdk_string requires_torch;
  mambasdk_string requires_cuda;
} mambasdk_plugin_descriptor;

/* Returns static data; must not allocate, start threads or run vector code. */
typedef const mambasdk_plugin_descriptor* (*mambasdk_plugin_fn)(void);

typedef struct mambasdk_op_definition {
  uint64_t struct_size;
  mambasdk_string signature; /* notation: docs/architecture.md, "An operation" */
  mambasdk_string doc;
  void* self;                   /* handed to the functions below; must live as long as the process */
  mambasdk_kernel_fn check;     /* constraints beyond the signature; may be NULL; outputs are not allocated yet */
  mambasdk_kernel_fn reference; /* takes every dtype of the signature, float64 too; may be NULL */
  mambasdk_kernel_fn cpu;       /* may be NULL when reference is not */
} mambasdk_op_definition;

/* ---- since 1.1: engines, processors, heads, pipelines ----
 *
 * A pipeline is what a package's manifest says: each processor turns one raw input (the bytes of an image file, text, a
 * waveform, detections) into tensors; the head runs the model on them, once or as often as it likes, and makes the
 * result. Everything between them is a named tensor; bytes and UTF-8 text are one-dimensional u8 tensors.
 */

/* What an engine is given of a package whose manifest and files are checked already. */
typedef struct mambasdk_package {
  uint64_t struct_size;
  mambasdk_string directory; /* absolute */
  mambasdk_string manifest;  /* the text of mambasdk.json */
  /* Since 1.2: what the caller of model_load allows. */
  uint64_t max_memory; /* bytes for what the model computes at load, and for each session; never 0 */
  int32_t allow_code;
  int32_t reserved;
} mambasdk_package;

/* Since 1.2. A named input or output of a model. */
typedef struct mambasdk_tensor_spec {
  mambasdk_string name;
  mambasdk_dtype dtype; /* all zero where the package does not say */
  int32_t ndim;
  const int64_t* shape; /* -1: an extent that may change from run to run */
} mambasdk_tensor_spec;

/* An engine runs the packages whose manifest names it. The functions mirror the session_* slots of the table; a model
 * is shared by threads, a session belongs to one at a time. `self` must live as long as the process. */
typedef struct mambasdk_engine_definition {
  uint64_t struct_size;
  mambasdk_string name;
  mambasdk_string doc;
  void* self;
  mambasdk_status* (*model_load)(void* self, const mambasdk_package* package, void** model);
  void (*model_release)(void* self, void* model);
  mambasdk_status* (*session_create)(void* self, void* model, const mambasdk_context* context, void** session);
  void (*session_release)(void* self, void* session);
  mambasdk_status* (*session_run)(void* self, void* session, const mambasdk_named_tensor* inputs, uint64_t input_count,
                                  const mambasdk_string* output_names, uint64_t output_count,
                                  mambasdk_managed_tensor** outputs);
  mambasdk_status* (*session_reset)(void* self, void* session);               /* NULL: the engine keeps no state */
  mambasdk_status* (*session_clone)(void* self, void* session, void** clone); /* NULL: unsupported */
  mambasdk_status* (*session_save)(void* self, void* session, void* data, uint64_t capacity, uint64_t* size);
  mambasdk_status* (*session_restore)(void* self, void* session, const void* data, uint64_t size);
  /* Since 1.2. Non-zero: loading a model executes machine code that comes with its package. model_load is then called
   * only where the load options allow code. */
  int32_t executes_code;
  int32_t reserved;
  /* Since 1.2. What the model takes and makes, where the manifest lists none of it; valid as long as the model. NULL:
   * the manifest has it. */
  mambasdk_status* (*model_tensors)(void* self, void* model, const mambasdk_tensor_spec** inputs, uint64_t* input_count,
                                    const mambasdk_tensor_spec** outputs, uint64_t* output_count);
} mambasdk_engine_definition;

/* Takes what a processor or a head makes, and owns it from then on, also when it returns a status. */
typedef mambasdk_status* (*mambasdk_emit_fn)(void* user, mambasdk_string name, mambasdk_managed_tensor* tensor);

/* Since 1.2. The model of a head, as long as the instance of the head lives. Grows at its end. */
typedef struct mambasdk_head_model {
  uint64_t struct_size;
  const mambasdk_model* model; /* for model_describe and tokenizer_of_model; not the head's to release */
  mambasdk_session* session;   /* for the session_* slots but session_release; keeps its state from run to run */
  const mambasdk_tensor_spec* inputs;
  uint64_t input_count;
  const mambasdk_tensor_spec* outputs;
  uint64_t output_count;
} mambasdk_head_model;

/* Since 1.2. One run of a head that runs its model itself. Grows at its end. */
typedef struct mambasdk_head_run {
  uint64_t struct_size;
  const mambasdk_context* context; /* never NULL; every function in it is set */
  const mambasdk_head_model* model;
  /* What the processors emitted, what the caller gave of the model's inputs, and "options" where there are any. */
  const mambasdk_named_tensor* inputs;
  uint64_t input_count;
  mambasdk_emit_fn emit;
  void* emit_user;
  mambasdk_text_fn on_text; /* takes text as it is written, in whole UTF-8 characters; may be NULL */
  void* text_user;
} mambasdk_head_run;

/* A processor or a head. `kind` is what the manifest names. Instances belong to one thread at a time and may keep state
 * from run to run (a tracker does); a run that fails leaves that state as it was. */
typedef struct mambasdk_processor_definition {
  uint64_t struct_size;
  mambasdk_string kind;
  mambasdk_string doc;
  void* self; /* must live as long as the process */
  /* config: its JSON object in the manifest; directory: the package, or "" outside one. */
  mambasdk_status* (*create)(void* self, mambasdk_string config, mambasdk_string directory, void** instance);
  void (*release)(void* self, void* instance);
  /* A processor gets the raw inputs that are named as its slot in the manifest ("image", "image.orientation"); a head
   * gets the model's outputs, all that the processors emitted, and the run's options as JSON text named "options"
   * where there are any. A head emits its result as JSON text named "json", and tensors beside it where it likes. */
  mambasdk_status* (*run)(void* self, void* instance, const mambasdk_context* context,
                          const mambasdk_named_tensor* inputs, uint64_t input_count, mambasdk_emit_fn emit,
                          void* emit_user);
  mambasdk_status* (*reset)(void* self, void* instance); /* NULL: keeps no state */
  /* Since 1.2, of heads. A head with `drive` runs its model itself: it gets this call in place of `run`, which then is
   * for the head by itself, without a model, and may be NULL. When the call fails, the model's session goes back to
   * where it was before. Without `drive` the model runs once, and its outputs go to `run`. */
  mambasdk_status* (*drive)(void* self, void* instance, const mambasdk_head_run* run);
  /* Once, before the first drive: a look at the model, which a head may refuse. May be NULL. */
  mambasdk_status* (*attach)(void* self, void* instance, const mambasdk_head_model* model);
} mambasdk_processor_definition;

typedef struct mambasdk_processor mambasdk_processor; /* an instance of a processor or a head */
typedef struct mambasdk_pipeline mambasdk_pipeline;
typedef struct mambasdk_result mambasdk_result; /* named tensors */

typedef struct mambasdk_pipeline_options {
  uint64_t struct_size;
  mambasdk_string json;     /* an object of the head's own options, such as {"max_new_tokens": 40}; "" for none */
  mambasdk_text_fn on_text; /* streamed text of a head that writes text; may be NULL */
  void* user;
} mambasdk_pipeline_options;

enum { MAMBASDK_PROCESSOR = 0, MAMBASDK_HEAD = 1 };

/* ---- since 1.2: devices (docs/devices.md) ----
 *
 * With this and kernels (register_kernel) a plugin makes programs run on a device. Work on one stream is done in order;
 * no function but synchronize waits for it. A stream is the device's own handle, NULL its default stream. Safe from
 * any thread. */

enum { MAMBASDK_COPY_TO_DEVICE = 1, MAMBASDK_COPY_FROM_DEVICE = 2, MAMBASDK_COPY_ON_DEVICE = 3 };

typedef struct mambasdk_device_definition {
  uint64_t struct_size;
  int32_t type; /* DLPack's; one definition for each type */
  int32_t reserved;
  mambasdk_string name; /* "cuda" */
  mambasdk_string doc;
  void* self;                   /* handed to the functions below; must live as long as the process */
  int32_t (*count)(void* self); /* how many of it this machine has; indices are below that */
  /* Memory for work that is put on `stream` after this, aligned to 64 bytes or more; NULL: none left. */
  void* (*allocate)(void* self, int32_t index, void* stream, uint64_t bytes);
  /* Work that is on `stream` by now may still use it. */
  void (*release)(void* self, int32_t index, void* stream, void* data, uint64_t bytes);
  /* Host memory that is read or written stays until synchronize has returned. */
  mambasdk_status* (*copy)(void* self, int32_t index, void* stream, int32_t direction, /* MAMBASDK_COPY_* */
                           void* to, const void* from, uint64_t bytes);
  mambasdk_status* (*fill)(void* self, int32_t index, void* stream, void* data, uint8_t byte, uint64_t bytes);
  /* Waits for what is on the stream; a failure of that work that was not reported yet is reported here. */
  mambasdk_status* (*synchronize)(void* self, int32_t index, void* stream);
  /* Both may be NULL: there is the default stream alone. */
  mambasdk_status* (*stream_create)(void* self, int32_t index, void** stream);
  void (*stream_release)(void* self, int32_t index, void* stream);
} mambasdk_device_definition;

/* ---- the table ---- */

typedef struct mambasdk_api {
  uint64_t struct_size;
  uint32_t abi_major;
  uint32_t abi_minor;

  /* status */
  int32_t (*status_code)(const mambasdk_status* status);
  mambasdk_string (*status_message)(const mambasdk_status* status); /* zero-terminated too */
  mambasdk_string (*status_origin)(const mambasdk_status* status);  /* operation, file or plugin */
  mambasdk_status* (*status_create)(int32_t code, mambasdk_string message, mambasdk_string origin);
  void (*status_release)(mambasdk_status* status); /* NULL is fine */

  /* the process */
  mambasdk_string (*version)(void);      /* "0.1.0" */
  mambasdk_string (*isa_detected)(void); /* "baseline", "avx2", "avx512", "avx512_bf16", "avx512_amx" */
  mambasdk_string (*isa_active)(void);
  mambasdk_status* (*set_max_isa)(mambasdk_string isa);
  mambasdk_status* (*set_num_threads)(int32_t count); /* of the runtime's own pool; 0: as many as processors */
  int32_t (*num_threads)(void);

  /* operations; handles live as long as the process */
  uint64_t (*op_list)(const mambasdk_op** out, uint64_t capacity); /* by name; returns how many there are */
  const mambasdk_op* (*op_find)(mambasdk_string name);             /* NULL: there is none */
  mambasdk_string (*op_describe)(const mambasdk_op* op);           /* JSON: the parsed signature, doc, origin */
  mambasdk_status* (*op_plan)(const mambasdk_op* op, const mambasdk_value* inputs, uint64_t input_count,
                              mambasdk_output_plan* outputs, uint64_t output_count);
  mambasdk_status* (*op_call)(const mambasdk_op* op, const mambasdk_context* context, const mambasdk_value* inputs,
                              uint64_t input_count, const mambasdk_tensor* outputs, uint64_t output_count,
                              int32_t kernel);

  /* plugins */
  mambasdk_status* (*plugin_load)(mambasdk_string absolute_path, mambasdk_string* description); /* JSON, static */
  mambasdk_status* (*register_op)(mambasdk_registrar* registrar, const mambasdk_op_definition* definition);
  /* A kernel for an operation of anybody on a type of device. On the CPU it never gets float64, elsewhere every dtype
   * of the signature: MAMBASDK_ERROR_UNSUPPORTED says that it does not take one. */
  mambasdk_status* (*register_kernel)(mambasdk_registrar* registrar, mambasdk_string op, int32_t device_type,
                                      mambasdk_kernel_fn kernel, void* self);

  /* models */
  mambasdk_status* (*model_load)(mambasdk_string directory, const mambasdk_load_options* options,
                                 mambasdk_model** model);
  void (*model_release)(mambasdk_model* model);                   /* sessions keep what they need of it */
  mambasdk_string (*model_describe)(const mambasdk_model* model); /* JSON: manifest, inputs, outputs, states */
  mambasdk_status* (*session_create)(const mambasdk_model* model, const mambasdk_context* context,
                                     mambasdk_session** session);
  void (*session_release)(mambasdk_session* session);
  /* Runs named inputs; states carry over from run to run. Fills outputs[i] for output_names[i]; the caller calls
   * outputs[i]->deleter(outputs[i]). */
  mambasdk_status* (*session_run)(mambasdk_session* session, const mambasdk_named_tensor* inputs, uint64_t input_count,
                                  const mambasdk_string* output_names, uint64_t output_count,
                                  mambasdk_managed_tensor** outputs);
  mambasdk_status* (*session_reset)(mambasdk_session* session); /* states back to zero */
  mambasdk_status* (*session_clone)(const mambasdk_session* session, mambasdk_session** clone);
  /* Saved state: a safetensors image. Call with data == NULL to learn the size. */
  mambasdk_status* (*session_save)(const mambasdk_session* session, void* data, uint64_t capacity, uint64_t* size);
  mambasdk_status* (*session_restore)(mambasdk_session* session, const void* data, uint64_t size);

  /* text */
  mambasdk_status* (*tokenizer_load)(mambasdk_string path, mambasdk_tokenizer** tokenizer); /* a tokenizer.json */
  mambasdk_status* (*tokenizer_of_model)(const mambasdk_model* model, mambasdk_tokenizer** tokenizer);
  void (*tokenizer_release)(mambasdk_tokenizer* tokenizer);
  uint64_t (*tokenizer_vocab_size)(const mambasdk_tokenizer* tokenizer);
  /* Both fill at most `capacity` items and set *count to how many there are. */
  mambasdk_status* (*tokenizer_encode)(const mambasdk_tokenizer* tokenizer, mambasdk_string text,
                                       int32_t add_special_tokens, int32_t* ids, uint64_t capacity, uint64_t* count);
  mambasdk_status* (*tokenizer_decode)(const mambasdk_tokenizer* tokenizer, const int32_t* ids, uint64_t id_count,
                                       int32_t skip_special_tokens, char* text, uint64_t capacity, uint64_t* size);
  mambasdk_status* (*sampler_create)(const mambasdk_sampler_options* options, mambasdk_sampler** sampler);
  void (*sampler_release)(mambasdk_sampler* sampler);
  mambasdk_status* (*sampler_sample)(mambasdk_sampler* sampler, const float* logits, uint64_t vocab_size,
                                     int32_t* token); /* remembers the token for the repetition penalty */
  mambasdk_status* (*sampler_observe)(mambasdk_sampler* sampler, const int32_t* tokens, uint64_t count);
  mambasdk_status* (*session_generate)(mambasdk_session* session, mambasdk_string prompt,
                                       const mambasdk_generate_options* options, mambasdk_generate_result* result);
  /* Decodes a growing sequence: each push yields the text that is complete with the token. continues: the text follows
   * another (a prompt), so nothing is cut from its start. The tokenizer must outlive the stream. Returned text is the
   * stream's, until the next call. */
  mambasdk_status* (*text_stream_create)(const mambasdk_tokenizer* tokenizer, int32_t skip_special_tokens,
                                         int32_t continues, mambasdk_text_stream** stream);
  void (*text_stream_release)(mambasdk_text_stream* stream);
  mambasdk_status* (*text_stream_push)(mambasdk_text_stream* stream, int32_t token, mambasdk_string* text);
  mambasdk_status* (*text_stream_finish)(mambasdk_text_stream* stream, mambasdk_string* text);

  /* ---- since 1.1 ---- */

  /* what is here: JSON {"plugins", "engines", "processors", "heads", "devices", "components"}, each item with its
   * origin; static until the next plugin_load or component_declare of this process */
  mambasdk_string (*runtime_describe)(void);
  /* The host says what it brings, before plugins load: ("torch", "2.13.0"), ("cuda", "13.0"). */
  mambasdk_status* (*component_declare)(mambasdk_string name, mambasdk_string version);

  mambasdk_status* (*register_engine)(mambasdk_registrar* registrar, const mambasdk_engine_definition* definition);
  mambasdk_status* (*register_processor)(mambasdk_registrar* registrar, int32_t role, /* MAMBASDK_PROCESSOR or _HEAD */
                                         const mambasdk_processor_definition* definition);

  /* one processor or head by itself */
  mambasdk_status* (*processor_create)(int32_t role, mambasdk_string kind, mambasdk_string config,
                                       mambasdk_string directory, mambasdk_processor** processor);
  void (*processor_release)(mambasdk_processor* processor);
  mambasdk_status* (*processor_run)(mambasdk_processor* processor, const mambasdk_context* context,
                                    const mambasdk_named_tensor* inputs, uint64_t input_count,
                                    mambasdk_result** result);
  mambasdk_status* (*processor_reset)(mambasdk_processor* processor);

  /* processors, model and head of a package */
  mambasdk_status* (*pipeline_create)(const mambasdk_model* model, const mambasdk_context* context,
                                      mambasdk_pipeline** pipeline);
  void (*pipeline_release)(mambasdk_pipeline* pipeline);
  mambasdk_status* (*pipeline_run)(mambasdk_pipeline* pipeline, const mambasdk_named_tensor* inputs,
                                   uint64_t input_count, const mambasdk_pipeline_options* options,
                                   mambasdk_result** result);
  mambasdk_status* (*pipeline_reset)(mambasdk_pipeline* pipeline); /* model states, processors and head */

  mambasdk_string (*result_json)(const mambasdk_result* result); /* the tensor "json" as text; "" without one */
  uint64_t (*result_count)(const mambasdk_result* result);
  mambasdk_string (*result_name)(const mambasdk_result* result, uint64_t index);
  const mambasdk_tensor* (*result_tensor)(const mambasdk_result* result, uint64_t index); /* the result's own */
  void (*result_release)(mambasdk_result* result);

  /* ---- since 1.2 ---- */

  mambasdk_status* (*register_device)(mambasdk_registrar* registrar, const mambasdk_device_definition* definition);
  /* "cpu", "cuda", "cuda:1": the names that runtime_describe lists, with an index below the count. */
  mambasdk_status* (*device_find)(mambasdk_string name, mambasdk_device* device);
  /* One head with a model, outside a pipeline: processor_run takes what its processors would emit, processor_reset is
   * the model's state too. The session runs in `context`, the head in that of each run. The model's folder is the
   * head's directory. */
  mambasdk_status* (*head_create)(const mambasdk_model* model, const mambasdk_context* context, mambasdk_string kind,
                                  mambasdk_string config, mambasdk_processor** head);
  /* Loads a package with this engine in place of the one that its manifest names: a model that the host runs. The
   * definition is copied; its `self` is used until the model and its sessions are gone. */
  mambasdk_status* (*model_load_with)(mambasdk_string directory, const mambasdk_load_options* options,
                                      const mambasdk_engine_definition* engine, mambasdk_model** model);
  /* A pipeline with this head in place of the manifest's; it gets the manifest's head options. The definition is
   * copied; its `self` is used until the pipeline is gone. */
  mambasdk_status* (*pipeline_create_with)(const mambasdk_model* model, const mambasdk_context* context,
                                           const mambasdk_processor_definition* head, mambasdk_pipeline** pipeline);
  /* What a session of the native engine uses now; the caller sets struct_size. MAMBASDK_ERROR_UNSUPPORTED for an engine
   * that does not count it. */
  mambasdk_status* (*session_memory)(const mambasdk_session* session, mambasdk_session_memory* memory);
} mambasdk_api;

/* Whether a table has a slot: for who asks for a minor and uses what later ones brought where it is there. */
#define MAMBASDK_HAS_SLOT(api, slot) ((api)->struct_size >= offsetof(mambasdk_api, slot) + sizeof((api)->slot))

/* NULL when this library cannot serve that major, or has a smaller minor. */
MAMBASDK_EXPORT const mambasdk_api* mambasdk_get_api(uint32_t abi_major, uint32_t abi_minor);

#ifdef __cplusplus
}
#endif

#endif /* MAMBASDK_MAMBASDK_H_ */
