# Language level, warnings, hardening and sanitizers, the same for every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
include(CheckPIESupported)
check_pie_supported()

# Paths in the compiler cache are relative to this tree, so that clones in different places share its contents.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
    ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
endif()

add_library(tritllm_flags INTERFACE)
target_compile_options(tritllm_flags INTERFACE
  -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor $<$<BOOL:${TRITLLM_WERROR}>:-Werror>
  # The codec's bytes must not depend on whether a multiply and an add are fused: docs/codec.md, "Arithmetic".
  -ffp-contract=off
  -fstack-protector-strong)
target_compile_definitions(tritllm_flags INTERFACE
  TRITLLM_VERSION="${PROJECT_VERSION}" _GLIBCXX_ASSERTIONS)
target_link_options(tritllm_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  # x86-64 machines since about 2009; src/kernels chooses faster instruction sets at run time.
  target_compile_options(tritllm_flags INTERFACE -march=x86-64-v2 -fcf-protection -fstack-clash-protection)
endif()

if(TRITLLM_SANITIZE)
  target_compile_options(tritllm_flags INTERFACE
    -fsanitize=${TRITLLM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(tritllm_flags INTERFACE -fsanitize=${TRITLLM_SANITIZE})
else()
  target_compile_definitions(tritllm_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
endif()
