// Owns what makes a test run once for each instruction set of this machine.
#pragma once

#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "kernels/kernel_table.h"

namespace tritllm::kernels {

// What GoogleTest writes beside a failed case.
inline void PrintTo(const KernelTable& table, std::ostream* out) { *out << table.name; }

inline auto every_table() { return testing::ValuesIn(supported_tables().begin(), supported_tables().end()); }
// All but the scalar one, which comes first.
inline auto every_vector_table() { return testing::ValuesIn(supported_tables().begin() + 1, supported_tables().end()); }

inline std::string table_name(const testing::TestParamInfo<KernelTable>& info) { return info.param.name; }

}  // namespace tritllm::kernels
