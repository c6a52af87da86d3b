// Owns the check that an input of a fuzz target costs no more than in proportion to its length: bytes of output and processor time.
// Does not own the limits in the code under test; these are looser, since sanitizers slow everything down.
#pragma once

#include <time.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>

class GrowthOracle {
 public:
  // Starts the clock.
  explicit GrowthOracle(size_t input_bytes) : input_bytes_(input_bytes), start_(processor_seconds()) {}

  void check_output(size_t bytes, size_t most, size_t most_per_byte) const {
    if (bytes <= most + most_per_byte * input_bytes_) return;
    std::fprintf(stderr, "growth: %zu bytes of output from %zu\n", bytes, input_bytes_);
    std::abort();
  }

  void check_time(double seconds, double seconds_per_mib) const {
    const double spent = processor_seconds() - start_;
    if (spent <= seconds + seconds_per_mib * static_cast<double>(input_bytes_) / (1 << 20)) return;
    std::fprintf(stderr, "growth: %.2f seconds for %zu bytes\n", spent, input_bytes_);
    std::abort();
  }

 private:
  static double processor_seconds() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  }

  size_t input_bytes_;
  double start_;
};
