/* The C interface of tritllm. C99; no function throws or aborts.
 *
 * Products on CUDA devices: balanced-ternary matrices times activations, on raw device pointers and the caller's stream, for use
 * from C, ctypes, CuPy or PyTorch. Calls return 0, or another number and, where `error` is not null, a message that trit_free()
 * releases. */
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

/* A matrix of weights in device memory, with the room that its products need. Not for use by two streams at the same time. */
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

TRIT_API void trit_free(void* memory); /* what this interface allocated; null is allowed */

#ifdef __cplusplus
}
#endif

#endif /* TRITLLM_H */
