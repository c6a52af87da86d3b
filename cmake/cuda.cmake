# The CUDA backend: -DTRITLLM_CUDA=ON, with the compiler that scripts/cuda_toolkit finds or installs. Nothing here is needed, nor looked
# for, without it. The program then holds machine code for the architectures below and PTX for later ones; the driver is opened when
# a CUDA device is first asked for, so the same program runs on machines that have none.
option(TRITLLM_CUDA "Build the CUDA backend" OFF)
# One of them, e.g. 90a, makes a quick build.
set(TRITLLM_CUDA_ARCHITECTURES "80-real;86-real;89-real;90a-real;100-real;120" CACHE STRING
  "What the CUDA kernels are compiled for, as CMAKE_CUDA_ARCHITECTURES")

if(NOT TRITLLM_CUDA)
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER)
  execute_process(COMMAND ${PROJECT_SOURCE_DIR}/scripts/cuda_toolkit
    OUTPUT_VARIABLE cuda_toolkit OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(CMAKE_CUDA_COMPILER ${cuda_toolkit}/bin/nvcc CACHE FILEPATH "The CUDA compiler")
endif()
get_filename_component(cuda_bin "${CMAKE_CUDA_COMPILER}" REALPATH)
get_filename_component(cuda_bin "${cuda_bin}" DIRECTORY)
get_filename_component(cuda_root "${cuda_bin}" DIRECTORY)
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_ARCHITECTURES ${TRITLLM_CUDA_ARCHITECTURES})
# CMake links its compiler test; the wheels of the toolkit keep libraries in lib/, not in lib64/.
set(CMAKE_CUDA_FLAGS_INIT "-L${cuda_root}/lib -L${cuda_root}/lib64")
enable_language(CUDA)

add_library(tritllm_cuda_runtime INTERFACE)
find_library(cuda_static_runtime cudart_static
  PATHS ${cuda_root}/lib ${cuda_root}/lib64 ${cuda_root}/targets/x86_64-linux/lib NO_DEFAULT_PATH REQUIRED)
target_include_directories(tritllm_cuda_runtime SYSTEM INTERFACE ${cuda_root}/include)
target_link_libraries(tritllm_cuda_runtime INTERFACE ${cuda_static_runtime} dl rt pthread)

# tritllm_cuda_kernels(NAME file...): a library of .cu files. They see the C++ headers, but not the warnings of C++ files.
function(tritllm_cuda_kernels name)
  add_library(${name} STATIC ${ARGN})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  set_target_properties(${name} PROPERTIES CUDA_RUNTIME_LIBRARY None POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${name} PRIVATE --expt-relaxed-constexpr --threads=0 -Xcompiler=-Wall)
  if("${TRITLLM_CUDA_ARCHITECTURES}" MATCHES "90a")
    target_compile_definitions(${name} PRIVATE TRITLLM_CUDA_SM_90A)
  endif()
  target_link_libraries(${name} PUBLIC tritllm_cuda_runtime)
endfunction()
