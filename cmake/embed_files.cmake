# tritllm_embed_files(OUTPUT [PATH TYPE FILE]...): a C++ file that defines page_files() of src/server/page_files.h: the path under which
# each file is served, its content type, its bytes. The assembler reads the files, so that megabytes cost no compile time.
function(tritllm_embed_files output)
  set(declarations "")
  set(rows "")
  set(inputs "")
  set(number 0)
  set(rest ${ARGN})
  while(rest)
    list(POP_FRONT rest path type file)
    string(APPEND declarations
      "__asm__(\".section .rodata\\n.global tritllm_page_${number}\\ntritllm_page_${number}:\\n.incbin \\\"${file}\\\"\\n\"\n"
      "        \".global tritllm_page_${number}_end\\ntritllm_page_${number}_end:\\n.byte 0\\n.previous\\n\");\n"
      "extern \"C\" const char tritllm_page_${number}[], tritllm_page_${number}_end[];\n")
    string(APPEND rows "      {\"${path}\", \"${type}\", {tritllm_page_${number}, tritllm_page_${number}_end}},\n")
    list(APPEND inputs ${file})
    math(EXPR number "${number} + 1")
  endwhile()
  file(CONFIGURE OUTPUT ${output} @ONLY CONTENT "#include \"server/page_files.h\"

@declarations@
namespace tritllm::server {
std::span<const PageFile> page_files() noexcept {
  static const PageFile files[] = {
@rows@  };
  return files;
}
}  // namespace tritllm::server
")
  set_source_files_properties(${output} PROPERTIES OBJECT_DEPENDS "${inputs}")
endfunction()
