/* The C interface of tritllm. C99; no function throws or aborts.
 *
 * Calls return 0, or another number and, where `error` is not null, a message that trit_free() releases. Texts are UTF-8 and end
 * with a zero; those that a call hands out are released by trit_free() too. Requests and options are JSON objects, with the fields
 * of docs/python.md: what C, Python and HTTP ask for is written in the same way. */
#ifndef TRITLLM_H
#define TRITLLM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TRIT_API __attribute__((visibility("default")))
#else
#define TRIT_API
#endif

TRIT_API const char* trit_version(void); /* "0.1.0"; not to be released */
TRIT_API void trit_free(void* memory);   /* what this interface allocated; null is allowed */

/* A model that answers, with its engine. Thread-safe: requests of several threads are computed together. */
typedef struct trit_model trit_model;

/* `options`: {"model": PATH, ...}, the arguments of Python's LLM. */
TRIT_API int trit_model_open(const char* options, trit_model** model, char** error);
/* After every generation of the model has been closed. Null is allowed. */
TRIT_API void trit_model_close(trit_model* model);
/* A JSON object: "device", "context", "vocabulary", "end_tokens", ... */
TRIT_API int trit_model_facts(const trit_model* model, char** facts, char** error);

/* Waits for a whole answer. `request`: {"prompt": TEXT or [token, ...]} or {"messages": [...]}, and options such as "max_tokens"
 * and "temperature". `answer`: a JSON object with "text", "tokens", "finish_reason", "prompt_tokens", and where asked for
 * "logprobs". */
TRIT_API int trit_generate(trit_model* model, const char* request, char** answer, char** error);

/* An answer piece by piece. For one thread at a time, but for trit_generation_cancel(). */
typedef struct trit_generation trit_generation;
TRIT_API int trit_generation_start(trit_model* model, const char* request, trit_generation** generation, char** error);
/* Waits up to so many milliseconds. `text`: the next piece, which may be empty; null where none came in this time. `ended` becomes
 * 1 with the last piece. Either may be null. */
TRIT_API int trit_generation_next(trit_generation* generation, int milliseconds, char** text, int* ended, char** error);
/* What has come so far, in the form of trit_generate()'s answer. */
TRIT_API int trit_generation_answer(const trit_generation* generation, char** answer, char** error);
TRIT_API void trit_generation_cancel(trit_generation* generation);
TRIT_API void trit_generation_close(trit_generation* generation); /* cancels what has not ended; null is allowed */

/* Quantises a model on disk: {"model", "out", "configs", ...}, the arguments of Python's quantize(). `results`: a JSON array. Where
 * `progress` is not null it gets a JSON object from time to time; anything but 0 ends the run, which can be continued. */
TRIT_API int trit_quantize(const char* options, int (*progress)(const char* news, void* data), void* data, char** results,
                           char** error);

/* One matrix [rows][columns] in the bytes of docs/format.md. The sizes of a matrix at a depth, for the buffers of the others: */
TRIT_API int64_t trit_trit_bytes(int64_t rows, int64_t columns, int depth); /* -1: no such matrix */
TRIT_API int64_t trit_scale_bytes(int64_t rows, int64_t columns);
/* `config`: RECIPE-dD. trits: [trit_trit_bytes()], scales: [trit_scale_bytes()], codebook: [27]. */
TRIT_API int trit_quantize_matrix(const float* weights, int64_t rows, int64_t columns, const char* config, uint8_t* trits,
                                  uint8_t* scales, float* codebook, char** error);
/* Checks the bytes, then decodes them to weights [rows][columns]. */
TRIT_API int trit_decode_matrix(const uint8_t* trits, const uint8_t* scales, const float* codebook, int64_t rows, int64_t columns,
                                int depth, float* weights, char** error);

/* Products on CUDA devices, in builds with CUDA: balanced-ternary matrices times activations, on raw device pointers and the
 * caller's stream, for use from C, ctypes, CuPy or PyTorch.
 *
 * A matrix of weights in device memory, with the room that its products need. Not for use by two streams at the same time. */
typedef struct trit_cuda_matrix trit_cuda_matrix;

/* Packs a matrix and copies it to a device. All pointers are to host memory, read before the call returns:
 *   codes        [rows][columns], from -H to H, where H = (3^depth - 1) / 2
 *   scale_codes  [rows][(columns + 15) / 16], from 0 to 26: the scale of each 16 consecutive weights of a row
 *   codebook     [27]: the scales; a weight is code * scale / H
 * depth is 1 to 4. */
TRIT_API int trit_cuda_matrix_new(int device, int depth, int64_t rows, int64_t columns, const int8_t* codes,
                                  const uint8_t* scale_codes, const float* codebook, trit_cuda_matrix** matrix, char** error);
TRIT_API void trit_cuda_matrix_free(trit_cuda_matrix* matrix); /* null is allowed */

/* Bytes of device memory that the weights take. */
TRIT_API int64_t trit_cuda_matrix_bytes(const trit_cuda_matrix* matrix);

/* Makes room for products with up to `tokens` tokens. trit_cuda_multiply() does so itself, but not while a stream is recorded. */
TRIT_API int trit_cuda_reserve(trit_cuda_matrix* matrix, int64_t tokens, char** error);

/* y[token][row] = sum over columns of x[token][column] * weight[row][column], added to y where `add` is not 0. x and y are float32
 * in the memory of the matrix's device; x is 16-byte aligned and x_stride, the elements from one token to the next, a multiple
 * of 4. x and y do not overlap. `stream` is a cudaStream_t (null: the default stream); the call returns before the product is done.
 * Activations are rounded to half precision, row by row to a common exponent. */
TRIT_API int trit_cuda_multiply(trit_cuda_matrix* matrix, const float* x, int64_t x_stride, int64_t tokens, float* y,
                                int64_t y_stride, int add, void* stream, char** error);

#ifdef __cplusplus
}
#endif

#endif /* TRITLLM_H */
