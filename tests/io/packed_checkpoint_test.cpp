// Damage to a packed checkpoint: every truncation and every flipped bit of every file of a small one, and files that are wrong
// although all checksums fit. Weights, index and manifest are refused at opening; other files load with a warning; examining finds
// everything.
#include "io/packed_checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>

#include "codec/trits.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/file.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "tasks/quantize_model.h"

namespace tritllm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeightsName = "trits-00001-of-00001.safetensors";
constexpr const char* kMatrix = "a.up_proj.weight";  // 3 × 17 at depth 2: 6 groups, 2 lines, padding in rows and in the last line
constexpr size_t kLines = 2;

const codec::ParallelLoop kLoop = [](size_t count, const std::function<void(size_t)>& body) {
  for (size_t i = 0; i < count; ++i) body(i);
};

// In place, since file systems flush a file that is emptied and written anew, which would make the many small damages slow.
void write(const fs::path& path, std::string_view contents) {
  if (!fs::exists(path)) std::ofstream(path, std::ios::binary);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  file.close();
  fs::resize_file(path, contents.size());
}

std::string model_weights(float first) {
  const std::vector<PlannedTensor> tensors{{kMatrix, ElementType::kF32, {3, 17}}, {"norm.weight", ElementType::kF32, {4}}};
  const SafetensorsLayout layout = plan_safetensors(tensors, {});
  std::vector<float> values(3 * 17 + 4);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.01f * static_cast<float>((i * 37) % 29) - 0.13f;
  values[0] = first;
  std::string file = layout.header;
  file.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return file;
}

// Makes FOLDER/packed of a tiny model.
fs::path make_packed(const fs::path& folder, float first) {
  create_folders(folder / "model");
  write(folder / "model" / "config.json", R"({"model_type": "llama"})");
  write(folder / "model" / "tokenizer.json", R"({"version": "1.0"})");
  write(folder / "model" / "chat_template.jinja", "{{ messages }}");
  write(folder / "model" / "model.safetensors", model_weights(first));
  QuantizeOptions options;
  options.model = folder / "model";
  options.configs = {codec::parse_config("optimal-d2")};
  options.output.folder = folder / "out";
  options.output.emit_model = false;
  options.threads = 1;
  quantize_model(options);
  fs::rename(folder / "out" / "optimal-d2" / "packed", folder / "packed");
  return folder / "packed";
}

class PackedDamage : public testing::Test {
 protected:
  static void SetUpTestSuite() { made = new Made; }
  static void TearDownTestSuite() {
    delete made;
    made = nullptr;
  }
  void TearDown() override {  // the next case finds the folder sound
    for (const auto& [name, contents] : made->files) write(made->packed / name, contents);
  }

  const fs::path& packed() const { return made->packed; }
  const std::string& file(const std::string& name) const { return made->files.at(name); }

  bool opens() const {
    try {
      PackedCheckpoint::open(packed(), kLoop);
      return true;
    } catch (const Error& error) {
      EXPECT_NE(error.where(), "");
      return false;
    }
  }
  std::vector<std::string> warnings() const { return PackedCheckpoint::open(packed(), kLoop).warnings(); }
  std::vector<ModelProblem> problems() const { return PackedCheckpoint::examine(packed(), kLoop); }

  // Replaces the contents of one file, however they are damaged, and expects it to be noticed as the file's role asks for.
  void expect_noticed(const std::string& name, std::string_view contents, const std::string& what) const {
    write(packed() / name, contents);
    const std::vector<ModelProblem> found = problems();
    ASSERT_FALSE(found.empty()) << name << ": " << what;
    if (name == kManifestName || name.find("safetensors") != name.npos) {
      ASSERT_FALSE(opens()) << name << ": " << what;
      return;
    }
    EXPECT_EQ(found.front().file, name);
    const std::vector<std::string> warned = warnings();
    ASSERT_EQ(warned.size(), 1u) << name << ": " << what;
    ASSERT_NE(warned.front().find(name), std::string::npos) << warned.front();
  }

  void expect_every_damage_is_noticed(const std::string& name) const {
    const std::string sound = file(name);
    for (size_t length = 0; length < sound.size(); ++length) {
      expect_noticed(name, std::string_view(sound).substr(0, length), "cut to " + std::to_string(length) + " bytes");
      if (HasFatalFailure()) return;
    }
    std::string flipped = sound;
    for (size_t byte = 0; byte < sound.size(); ++byte) {
      for (int bit = 0; bit < 8; ++bit) {
        flipped[byte] = static_cast<char>(sound[byte] ^ (1 << bit));
        expect_noticed(name, flipped, "bit " + std::to_string(bit) + " of byte " + std::to_string(byte));
        if (HasFatalFailure()) return;
      }
      flipped[byte] = sound[byte];
    }
    expect_noticed(name, sound + '\0', "a byte more");
    fs::remove(packed() / name);
    EXPECT_FALSE(problems().empty());
  }

  // Changes the bytes of one stored tensor; file and tensor get checksums that fit.
  void change_tensor(const std::string& stored, const std::function<void(std::string&)>& change) const {
    std::string weights = file(kWeightsName);
    const SafetensorsHeader header = parse_safetensors(std::as_bytes(std::span(weights)), "test");
    for (const StoredTensor& tensor : header.tensors) {
      if (tensor.name != stored) continue;
      std::string bytes = weights.substr(tensor.offset, tensor.bytes);
      change(bytes);
      weights.replace(tensor.offset, tensor.bytes, bytes);
    }
    write(packed() / kWeightsName, weights);
    Checksum sum;
    for (const char* const part : {".trits", ".scales", ".codebook"}) {
      for (const StoredTensor& tensor : header.tensors) {
        if (tensor.name == kMatrix + std::string(part)) sum.add(std::string_view(weights).substr(tensor.offset, tensor.bytes));
      }
    }
    change_manifest([&](Manifest& manifest) {
      for (FileRecord& record : manifest.files) {
        if (record.name == kWeightsName) record.checksum = checksum_of(weights);
      }
      for (TensorRecord& record : manifest.tensors) {
        if (record.name == kMatrix) record.checksum = sum.hex();
      }
    });
  }
  void change_manifest(const std::function<void(Manifest&)>& change) const {
    Manifest manifest = parse_manifest(file(std::string(kManifestName)), "test");
    change(manifest);
    write(packed() / kManifestName, manifest_text(manifest));
  }
  TensorRecord& matrix_of(Manifest& manifest) const {
    for (TensorRecord& record : manifest.tensors) {
      if (record.name == kMatrix) return record;
    }
    throw std::logic_error("the test's model has no such matrix");
  }

  // Every checksum fits, so that only a look at the values can tell.
  void expect_matrix_is_refused(const std::string& word) const {
    const std::vector<ModelProblem> found = problems();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_NE((found.front().where + ": " + found.front().message).find(word), std::string::npos) << found.front().message;
    EXPECT_NE(found.front().where.find(kMatrix), std::string::npos) << found.front().where;
    expect_error(ErrorCode::kBadInput, word, [&] { PackedCheckpoint::open(packed(), kLoop); });
  }

 private:
  struct Made {
    TemporaryFolder folder;
    fs::path packed = make_packed(folder.path(), 0.2f);
    std::map<std::string, std::string> files = read_all(packed);

    static std::map<std::string, std::string> read_all(const fs::path& path) {
      std::map<std::string, std::string> files;
      for (const fs::directory_entry& entry : fs::directory_iterator(path))
        files[entry.path().filename()] = read_text_file(entry.path());
      return files;
    }
  };
  static Made* made;
};

PackedDamage::Made* PackedDamage::made = nullptr;

TEST_F(PackedDamage, ASoundFolderHasNoProblems) {
  EXPECT_TRUE(problems().empty());
  EXPECT_TRUE(warnings().empty());
}

TEST_F(PackedDamage, EveryDamageToTheWeightsIsNoticed) { expect_every_damage_is_noticed(kWeightsName); }
TEST_F(PackedDamage, EveryDamageToTheIndexIsNoticed) { expect_every_damage_is_noticed("trits.safetensors.index.json"); }
TEST_F(PackedDamage, EveryDamageToTheManifestIsNoticed) { expect_every_damage_is_noticed(std::string(kManifestName)); }
TEST_F(PackedDamage, EveryDamageToTheConfigIsNoticed) { expect_every_damage_is_noticed("config.json"); }
TEST_F(PackedDamage, EveryDamageToTheTokenizerIsNoticed) { expect_every_damage_is_noticed("tokenizer.json"); }
TEST_F(PackedDamage, EveryDamageToTheTemplateIsNoticed) { expect_every_damage_is_noticed("chat_template.jinja"); }
TEST_F(PackedDamage, EveryDamageToTheModelCardIsNoticed) { expect_every_damage_is_noticed("README.md"); }

TEST_F(PackedDamage, FilesOfAnotherRunAreNoticed) {
  const TemporaryFolder folder;
  const fs::path other = make_packed(folder.path(), -0.1f);
  ASSERT_EQ(fs::file_size(other / kWeightsName), file(kWeightsName).size()) << "only the contents differ";
  for (const std::string& name : {std::string(kWeightsName), std::string(kManifestName)}) {
    expect_noticed(name, read_text_file(other / name), "of another run");
    write(packed() / name, file(name));
  }
}

TEST_F(PackedDamage, SwappedAndZeroedPiecesAreNoticed) {
  std::string weights = file(kWeightsName);
  const size_t end = weights.size();
  std::swap_ranges(weights.end() - 64, weights.end() - 32, weights.end() - 32);
  if (weights != file(kWeightsName)) expect_noticed(kWeightsName, weights, "swapped");
  weights = file(kWeightsName);
  std::fill(weights.begin() + static_cast<ptrdiff_t>(end / 2), weights.end(), '\0');
  expect_noticed(kWeightsName, weights, "zeroed");
}

TEST_F(PackedDamage, WeightsThatTheManifestDoesNotListAreFound) {
  for (const char* const name : {"trits-00002-of-00002.safetensors", "model.safetensors"}) {
    write(packed() / name, file(kWeightsName));
    ASSERT_EQ(problems().size(), 1u);
    EXPECT_NE(problems().front().where.find(name), std::string::npos);
    fs::remove(packed() / name);
  }
  write(packed() / "notes.txt", "what its owner put there");
  EXPECT_TRUE(problems().empty());
  fs::remove(packed() / "notes.txt");
}

TEST_F(PackedDamage, BytesThatHoldNoTritsAreFoundThoughChecksumsFit) {
  int invalid = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<uint8_t>(byte);
    if (!codec::find_invalid_trit_byte({&value, 1})) continue;
    ++invalid;
    for (const char* const part : {".trits", ".scales"}) {
      change_tensor(kMatrix + std::string(part), [&](std::string& bytes) { bytes[1] = static_cast<char>(value); });
      expect_matrix_is_refused(part + 1);
    }
  }
  EXPECT_EQ(invalid, 13);
}

TEST_F(PackedDamage, CodebooksOutOfRangeAreFoundThoughChecksumsFit) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const auto set = [&](std::initializer_list<std::pair<size_t, float>> scales) {
    change_tensor(kMatrix + std::string(".codebook"), [&](std::string& bytes) {
      for (const auto& [index, value] : scales) std::memcpy(bytes.data() + index * sizeof(float), &value, sizeof(float));
    });
    expect_matrix_is_refused("of the codebook");
  };
  for (const float bad : {infinity, nan, -nan, -1.0f, -0.0f, 0x1.000002p32f}) set({{26, bad}});
  set({{0, -0.0f}});
  set({{0, nan}});
  set({{5, 100.0f}, {6, 99.0f}, {7, 100.0f}});
}

TEST_F(PackedDamage, PaddingThatIsNotZeroIsFoundThoughChecksumsFit) {
  // Groups 1, 3 and 5 end a row and use one weight of 16; line 1 holds group 5 and four filling groups.
  const auto pack = [](std::array<int, 5> trits) {
    int value = 0;
    for (size_t i = 5; i-- > 0;) value = value * 3 + trits[i] + 1;
    return static_cast<char>((value * 256 + 242) / 243);
  };
  const auto change_trit = [&](const char* part, size_t at, const std::array<int, 5>& trits) {
    change_tensor(kMatrix + std::string(part), [&](std::string& bytes) { bytes[at] = pack(trits); });
    expect_matrix_is_refused("padding");
  };
  for (size_t plane = 0; plane < 2; ++plane) {
    change_trit(".trits", (plane * kLines + 1) * 16 + 3, {1, 0, 0, 0, 0});  // row padding of group 5
    change_trit(".trits", (plane * kLines + 1) * 16 + 0, {0, 1, 0, 0, 0});  // a filling group's first code
    change_trit(".trits", (plane * kLines + 1) * 16 + 15, {0, 0, 0, 0, -1});
  }
  for (size_t trit = 0; trit < 3; ++trit) change_trit(".scales", 3 + trit, {0, -1, -1, -1, 0});
}

TEST_F(PackedDamage, ManifestsThatContradictTheWeightsAreRefusedThoughTheirChecksumFits) {
  const std::vector<std::function<void(Manifest&)>> changes{
      [&](Manifest& m) { matrix_of(m).depth = 3; },
      [&](Manifest& m) {
        matrix_of(m).shape = {3, 65};
      },
      [&](Manifest& m) {
        matrix_of(m).shape = {uint64_t{1} << 40, 17};
      },
      [&](Manifest& m) { matrix_of(m).shape = {51}; },
      [&](Manifest& m) {
        matrix_of(m).shape = {1, 1, 3, 17};
      },
      [&](Manifest& m) { matrix_of(m).name = "another.weight"; },
      [&](Manifest& m) { matrix_of(m).fate = Fate::kTied; },
      [&](Manifest& m) { matrix_of(m).fate = Fate::kKept, matrix_of(m).type = "F16"; },
      [&](Manifest& m) { m.tensors.pop_back(); },
      [&](Manifest& m) { m.tensors.push_back(m.tensors.back()); },
      [&](Manifest& m) { m.tensors.push_back(m.tensors.back()), m.tensors.back().name = "ghost"; },
      [&](Manifest& m) { m.files.push_back(m.files.front()); },
      [&](Manifest& m) { std::erase_if(m.files, [](const FileRecord& file) { return file.role == FileRole::kWeights; }); },
      [&](Manifest& m) { m.files.front().role = FileRole::kSide; },
      [&](Manifest& m) { m.files.front().bytes += 1; },
      [&](Manifest& m) { m.files.front().name = "../packed/" + m.files.front().name; },
      [&](Manifest& m) { m.files.front().name = (packed() / m.files.front().name).string(); },
      [&](Manifest& m) { m.files.front().name = "gone.safetensors"; },
      [&](Manifest& m) { m.files.front().name = ""; },
      [&](Manifest& m) { m.files.front().name = "."; },
      [&](Manifest& m) { m.files.front().role = FileRole::kIndex; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    change_manifest(changes[i]);
    EXPECT_FALSE(opens()) << "change " << i;
    EXPECT_FALSE(problems().empty()) << "change " << i;
  }
}

TEST_F(PackedDamage, ManifestsOfAnotherFormatAreRefused) {
  const std::string sound = file(std::string(kManifestName));
  const auto rewritten = [&](const std::string& from, const std::string& to) {
    std::string text = sound.substr(0, sound.rfind("  \"checksum\""));
    const size_t at = text.find(from);
    if (at == text.npos) throw std::logic_error("not in the manifest: " + from);
    text.replace(at, from.size(), to);
    const std::string digits = checksum_of(text);
    return text + "  \"checksum\": \"" + digits + "\"\n}\n";
  };
  const std::vector<std::pair<std::string, std::string>> changes{{"\"format_version\": 1", "\"format_version\": 2"},
                                                                 {"\"format_version\": 1", "\"format_version\": \"1\""},
                                                                 {"\"tritllm-packed\"", "\"other\""},
                                                                 {"\"group_size\": 16", "\"group_size\": 32"},
                                                                 {"\"fate\": \"ternary\"", "\"fate\": \"lost\""},
                                                                 {"\"role\": \"weights\"", "\"role\": \"heavy\""},
                                                                 {"\"depth\": 2", "\"depth\": 5"},
                                                                 {"\"depth\": 2", "\"depth\": 0"},
                                                                 {"\"depth\": 2", "\"depth\": 2.0"},
                                                                 {"\"depth\": 2", "\"depth\": 2, \"depth\": 2"},
                                                                 {"\"tensors\": [", "\"tensors\": {} , \"x\": ["},
                                                                 {"\"cosine\": ", "\"cosine\": null, \"c\": "}};
  for (const auto& [from, to] : changes) {
    write(packed() / kManifestName, rewritten(from, to));
    EXPECT_FALSE(opens()) << to;
    EXPECT_FALSE(problems().empty()) << to;
  }
}

}  // namespace
}  // namespace tritllm
