// Owns the printable characters that stand for the 256 bytes in byte-level vocabularies (GPT-2 and all that follow it). Does not
// own where words are cut.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tritllm {

// Each byte of `text` as its character.
void append_byte_level(std::string& out, std::string_view text);

// The byte that a character stands for.
std::optional<uint8_t> byte_of_character(uint32_t code_point) noexcept;

// A token's bytes: every character undone, or the token as it stands where one of them stands for no byte.
std::string undo_byte_level(std::string_view token);

}  // namespace tritllm
