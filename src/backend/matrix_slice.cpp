#include "backend/matrix_slice.h"

#include <fmt/format.h>

#include "codec/geometry.h"
#include "core/error.h"

namespace tritllm {

MatrixSlice resolved_slice(MatrixSlice slice, uint64_t rows, uint64_t columns) {
  const auto resolve = [](uint64_t first, uint64_t count, uint64_t all) {
    return first > all ? UINT64_MAX : count == UINT64_MAX ? all - first : count;
  };
  slice.rows = resolve(slice.first_row, slice.rows, rows);
  slice.columns = resolve(slice.first_column, slice.columns, columns);
  const bool inside = slice.rows <= rows && slice.first_row <= rows - slice.rows && slice.columns <= columns &&
                      slice.first_column <= columns - slice.columns;
  const bool whole_groups = slice.first_column % codec::kGroupSize == 0 &&
                            (slice.columns % codec::kGroupSize == 0 || slice.first_column + slice.columns == columns);
  if (inside && whole_groups) return slice;
  throw Error(ErrorCode::kUsage, "slice",
              fmt::format("rows {} + {} and columns {} + {} of a matrix of {} rows and {} columns", slice.first_row, slice.rows,
                          slice.first_column, slice.columns, rows, columns),
              "take a slice that lies inside, whose columns begin and end at groups of 16");
}

}  // namespace tritllm
