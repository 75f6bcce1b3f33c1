holdfast_unit_test(evidence SOURCES test_evidence.c ../faults/tracee.c LIBS evidence_core Threads::Threads)
