// Owns the table of licences. A row says what the licence itself says; where versions of one licence differ, its text decides
// (required_notice()).
#include "tasks/licences.h"

#include <algorithm>
#include <array>

#include "core/utf8.h"

namespace tritllm {
namespace {

constexpr std::string_view kWithinTerms = "Commercial use is allowed within the terms of that licence only.";
constexpr std::string_view kNotCommercial = "That licence does not allow commercial use.";
constexpr std::string_view kCommercial = "That licence allows commercial use.";

constexpr std::array kLicences{
    Licence{
        .id = "llama4",
        .name = "llama4",
        .title = "Llama 4 Community License Agreement",
        .link = "https://www.llama.com/llama4/license/",
        .mark = "LLAMA 4 COMMUNITY LICENSE",
        .attribution = "**Built with Llama.**",
        .notice = "Llama 4 is licensed under the Llama 4 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.",
        .commercial = kWithinTerms,
        .policy_link = "https://www.llama.com/llama4/use-policy",
        .name_prefix = "Llama",
        .owner = "meta-llama",
        .hub_file = "LICENSE",
        .is_gated = true},
    Licence{
        .id = "llama3.3",
        .name = "llama3.3",
        .title = "Llama 3.3 Community License Agreement",
        .link = "https://www.llama.com/llama3_3/license/",
        .mark = "LLAMA 3.3 COMMUNITY LICENSE",
        .attribution = "**Built with Llama.**",
        .notice =
            "Llama 3.3 is licensed under the Llama 3.3 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.",
        .commercial = kWithinTerms,
        .policy_link = "https://www.llama.com/llama3_3/use-policy",
        .name_prefix = "Llama",
        .owner = "meta-llama",
        .hub_file = "LICENSE",
        .is_gated = true},
    Licence{
        .id = "llama3.2",
        .name = "llama3.2",
        .title = "Llama 3.2 Community License Agreement",
        .link = "https://www.llama.com/llama3_2/license/",
        .mark = "LLAMA 3.2 COMMUNITY LICENSE",
        .attribution = "**Built with Llama.**",
        .notice =
            "Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.",
        .commercial = kWithinTerms,
        .policy_link = "https://www.llama.com/llama3_2/use-policy",
        .name_prefix = "Llama",
        .owner = "meta-llama",
        .hub_file = "LICENSE.txt",
        .is_gated = true},
    Licence{
        .id = "llama3.1",
        .name = "llama3.1",
        .title = "Llama 3.1 Community License Agreement",
        .link = "https://www.llama.com/llama3_1/license/",
        .mark = "LLAMA 3.1 COMMUNITY LICENSE",
        .attribution = "**Built with Llama.**",
        .notice =
            "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.",
        .commercial = kWithinTerms,
        .policy_link = "https://www.llama.com/llama3_1/use-policy",
        .name_prefix = "Llama",
        .owner = "meta-llama",
        .hub_file = "LICENSE",
        .is_gated = true},
    Licence{.id = "llama3",
            .name = "llama3",
            .title = "Meta Llama 3 Community License Agreement",
            .link = "https://www.llama.com/llama3/license/",
            .mark = "LLAMA 3 COMMUNITY LICENSE",
            .attribution = "**Built with Meta Llama 3.**",
            .notice =
                "Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta Platforms, Inc. All Rights "
                "Reserved.",
            .commercial = kWithinTerms,
            .policy_link = "https://www.llama.com/llama3/use-policy",
            .name_prefix = "Llama",
            .owner = "meta-llama",
            .hub_file = "LICENSE",
            .is_gated = true},
    Licence{.id = "llama2",
            .name = "llama2",
            .title = "Llama 2 Community License Agreement",
            .link = "https://ai.meta.com/llama/license/",
            .mark = "LLAMA 2 COMMUNITY LICENSE",
            .notice = "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. All Rights "
                      "Reserved.",
            .commercial = kWithinTerms,
            .policy_link = "https://ai.meta.com/llama/use-policy/",
            .owner = "meta-llama",
            .hub_file = "LICENSE.txt",
            .is_gated = true},
    Licence{.id = "gemma",
            .name = "gemma",
            .title = "Gemma Terms of Use",
            .link = "https://ai.google.dev/gemma/terms",
            .mark = "GEMMA TERMS OF USE",
            .attribution = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.",
            .notice = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
            .commercial = kWithinTerms,
            .policy_link = "https://ai.google.dev/gemma/prohibited_use_policy",
            .is_gated = true},
    Licence{
        .id = "other",
        .name = "qwen-research",
        .title = "Qwen Research License Agreement",
        .mark = "QWEN RESEARCH LICENSE",
        .attribution = "**Built with Qwen.**",
        .notice = "Qwen is licensed under the Qwen RESEARCH LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. All Rights Reserved.",
        .commercial = kNotCommercial,
        .owner = "Qwen",
        .hub_file = "LICENSE",
        .is_gated = true},
    Licence{.id = "other",
            .name = "tongyi-qianwen",
            .title = "Tongyi Qianwen License Agreement",
            .mark = "TONGYI QIANWEN LICENSE",
            .attribution = "**Built with Qwen.**",
            .notice =
                "Tongyi Qianwen is licensed under the Tongyi Qianwen LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. All Rights "
                "Reserved.",
            .commercial = kWithinTerms,
            .owner = "Qwen",
            .hub_file = "LICENSE",
            .is_gated = true},
    Licence{.id = "other",
            .name = "qwen",
            .title = "Qwen License Agreement",
            .mark = "QWEN LICENSE AGREEMENT",
            .attribution = "**Built with Qwen.**",
            .notice = "Qwen is licensed under the Qwen LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. All Rights Reserved.",
            .commercial = kWithinTerms,
            .owner = "Qwen",
            .hub_file = "LICENSE",
            .is_gated = true},
    Licence{.id = "other",
            .name = "mrl",
            .title = "Mistral AI Research License",
            .link = "https://mistral.ai/licenses/MRL-0.1.md",
            .mark = "MISTRAL AI RESEARCH LICENSE",
            .commercial = kNotCommercial,
            .is_gated = true},
    Licence{.id = "cc-by-nc-4.0",
            .name = "cc-by-nc-4.0",
            .title = "Creative Commons Attribution-NonCommercial 4.0",
            .link = "https://creativecommons.org/licenses/by-nc/4.0/",
            .mark = "ATTRIBUTION-NONCOMMERCIAL 4.0",
            .commercial = kNotCommercial},
    Licence{.id = "cc-by-sa-4.0",
            .name = "cc-by-sa-4.0",
            .title = "Creative Commons Attribution-ShareAlike 4.0",
            .link = "https://creativecommons.org/licenses/by-sa/4.0/",
            .mark = "ATTRIBUTION-SHAREALIKE 4.0",
            .commercial = kCommercial},
    Licence{.id = "cc-by-4.0",
            .name = "cc-by-4.0",
            .title = "Creative Commons Attribution 4.0",
            .link = "https://creativecommons.org/licenses/by/4.0/",
            .mark = "ATTRIBUTION 4.0 INTERNATIONAL",
            .commercial = kCommercial},
    Licence{.id = "apache-2.0",
            .name = "apache-2.0",
            .title = "Apache License 2.0",
            .link = "https://www.apache.org/licenses/LICENSE-2.0",
            .mark = "APACHE LICENSE VERSION 2.0",
            .commercial = kCommercial},
    Licence{.id = "mit",
            .name = "mit",
            .title = "MIT License",
            .link = "https://opensource.org/license/mit",
            .mark = "PERMISSION IS HEREBY GRANTED, FREE OF CHARGE, TO ANY PERSON OBTAINING A COPY",
            .commercial = kCommercial},
};

// Capitals, words parted by one space, without the marks between them that forms of one licence differ in.
std::string plain_capitals(std::string_view text) {
  std::string plain;
  for (const char c : ascii_capitals(text)) {
    const bool is_space = c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '#' || c == '*';
    if (!is_space) plain += c;
    else if (!plain.empty() && plain.back() != ' ') plain += ' ';
  }
  return plain;
}

// "Llama-3.1" and "llama3.1" are written for the same licence.
std::string key_of(std::string_view identifier) {
  std::string key = ascii_capitals(identifier);
  std::erase_if(key, [](char c) { return c == '-' || c == '_' || c == ' '; });
  return key;
}

bool is_notice_name(std::string_view name) {
  const std::string capitals = ascii_capitals(name);
  return capitals == "NOTICE" || capitals == "NOTICE.TXT" || capitals == "NOTICE.MD";
}

// The line as the model's own licence text quotes it: its date or its holder may differ from version to version.
std::string required_notice(const Licence& licence, const std::vector<SideFile>& files) {
  const SideFile* const file = licence_file(files);
  const std::string_view usual = licence.notice, subject = usual.substr(0, usual.find(" is "));
  if (file == nullptr) return std::string(usual);
  constexpr size_t kLongestNotice = 400;
  const std::string_view text = file->contents;
  const std::string begin = std::string(subject) + " is licensed under";
  const size_t at = text.find(begin);
  constexpr std::string_view kEnd = "All Rights Reserved.";
  const size_t end = at == text.npos ? text.npos : text.find(kEnd, at);
  if (end == text.npos || end - at > kLongestNotice) return std::string(usual);
  std::string line;
  for (const char c : text.substr(at, end + kEnd.size() - at)) {
    if (c != '\n' && c != '\r' && c != ' ') line += c;
    else if (line.back() != ' ') line += ' ';
  }
  return line;
}

}  // namespace

const Licence* find_licence(const std::optional<std::string>& id, const std::optional<std::string>& name) {
  const auto named = [](const std::string& text) -> const Licence* {
    const auto row = std::ranges::find_if(kLicences, [&](const Licence& known) { return key_of(known.name) == key_of(text); });
    return row == kLicences.end() ? nullptr : &*row;
  };
  if (id && key_of(*id) != "OTHER") return named(*id);
  return name ? named(*name) : nullptr;
}

const Licence* recognise_licence(std::string_view text) {
  constexpr size_t kBeginning = 20'000;  // a licence says early what it is
  const std::string plain = plain_capitals(text.substr(0, kBeginning));
  const auto row = std::ranges::find_if(kLicences, [&](const Licence& known) { return plain.find(known.mark) != plain.npos; });
  return row == kLicences.end() ? nullptr : &*row;
}

const SideFile* licence_file(const std::vector<SideFile>& files) {
  const auto found = std::ranges::find_if(files, [](const SideFile& file) {
    const std::string capitals = ascii_capitals(file.name);
    return capitals.starts_with("LICENSE") || capitals.starts_with("LICENCE") || capitals.starts_with("COPYING");
  });
  return found == files.end() ? nullptr : &*found;
}

std::vector<SideFile> with_notice(std::vector<SideFile> files, const Licence* licence) {
  if (licence == nullptr || licence->notice.empty()) return files;
  const std::string notice = required_notice(*licence, files);
  const auto found = std::ranges::find_if(files, [](const SideFile& file) { return is_notice_name(file.name); });
  if (found == files.end()) {
    // Where a listing of the folder will have it.
    constexpr std::string_view kName = "Notice";
    const auto later = [&](const SideFile& file) { return file.name > kName || file.name.find('/') != file.name.npos; };
    files.insert(std::ranges::find_if(files, later), {std::string(kName), notice + "\n"});
  } else if (found->contents.find(notice) == found->contents.npos) {
    if (!found->contents.empty() && !found->contents.ends_with('\n')) found->contents += '\n';
    found->contents += notice + "\n";
  }
  return files;
}

}  // namespace tritllm
