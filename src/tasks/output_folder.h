// Owns what the folders of a result hold beside their weights, for quantize, merge and dequantize: which tensors, the configs, the
// side files, the card, and the step that gives the finished folder its name. Does not own the weights' bytes (matrix_job.h).
#pragma once

#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "io/folder_writer.h"
#include "io/manifest.h"
#include "io/model_source.h"
#include "io/packed_checkpoint.h"
#include "tasks/tensor_policy.h"

namespace tritllm {

// Tensors that make one matrix or kept tensor of a packed checkpoint; nothing for tied ones.
std::vector<PlannedTensor> packed_tensors(const std::string& name, const std::vector<uint64_t>& shape, ElementType source,
                                          const TensorPlan& plan);

// Tensors of a packed folder's and of a plain folder's weight files, each of them a unit that stays in one file.
std::vector<std::vector<PlannedTensor>> packed_units(const std::vector<TensorRecord>& tensors);
std::vector<std::vector<PlannedTensor>> plain_units(const std::vector<TensorRecord>& tensors);

// config.json of the packed and of the plain folder, from the source's.
Json packed_config(Json config, const Manifest& manifest);
Json plain_config(Json config);

// Throws where a matrix of the checkpoint decodes to numbers that an FP16 folder cannot hold: better said before the work.
void refuse_matrices_beyond_half(const PackedCheckpoint& checkpoint);

// Decodes one matrix, none of whose numbers is beyond FP16, into the FP16 folder; its bytes are checked before they are trusted.
void write_decoded_matrix(const TernaryMatrix& matrix, const std::string& name, const std::string& place, const FolderWriter& plain,
                          ThreadPool& pool);

// Writes everything beside the weights into a finished set of weight files and publishes the folder.
void finish_packed_folder(FolderWriter& packed, Manifest manifest, const Json& source_config,
                          const std::vector<SideFile>& side_files);
void finish_plain_folder(FolderWriter& plain, const Manifest& manifest, const Json& source_config,
                         const std::vector<SideFile>& side_files);

}  // namespace tritllm
