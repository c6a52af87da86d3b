/* The example of docs/c_api.md, C99: quantises a matrix, gives it back, and answers a prompt, whole and in pieces. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tritllm.h>

static int failed(const char* what, char* error) {
  fprintf(stderr, "%s: %s\n", what, error != NULL ? error : "");
  trit_free(error);
  return 1;
}

static int matrix_round_trip(void) {
  enum { kRows = 3, kColumns = 20, kDepth = 2 };
  float weights[kRows * kColumns], decoded[kRows * kColumns], codebook[27];
  uint8_t* const trits = malloc((size_t)trit_trit_bytes(kRows, kColumns, kDepth));
  uint8_t* const scales = malloc((size_t)trit_scale_bytes(kRows, kColumns));
  char* error = NULL;
  /* Whole multiples of a quarter up to one: depth 2 holds them exactly. */
  for (int i = 0; i < kRows * kColumns; ++i) weights[i] = 0.25f * (float)(i % 9 - 4);
  int status = trit_quantize_matrix(weights, kRows, kColumns, "optimal-d2", trits, scales, codebook, &error);
  if (status == 0) status = trit_decode_matrix(trits, scales, codebook, kRows, kColumns, kDepth, decoded, &error);
  free(trits);
  free(scales);
  if (status != 0) return failed("matrix", error);
  printf("matrix %s\n", memcmp(weights, decoded, sizeof weights) == 0 ? "same" : "different");
  return 0;
}

static int stream(trit_model* model, const char* request) {
  trit_generation* generation = NULL;
  char* error = NULL;
  if (trit_generation_start(model, request, &generation, &error) != 0) return failed("start", error);
  printf("pieces ");
  for (int ended = 0; !ended;) {
    char* text = NULL;
    if (trit_generation_next(generation, 1000, &text, &ended, &error) != 0) return failed("next", error);
    if (text != NULL) fputs(text, stdout);
    trit_free(text);
  }
  printf("\n");
  trit_generation_close(generation);
  return 0;
}

int main(int argc, char** argv) {
  char* error = NULL;
  char* answer = NULL;
  trit_model* model = NULL;
  if (matrix_round_trip() != 0) return 1;
  if (argc < 3) return 0;
  if (trit_model_open(argv[1], &model, &error) != 0) return failed("open", error);
  if (trit_generate(model, argv[2], &answer, &error) != 0) return failed("generate", error);
  printf("answer %s\n", answer);
  trit_free(answer);
  const int status = stream(model, argv[2]);
  trit_model_close(model);
  return status;
}
