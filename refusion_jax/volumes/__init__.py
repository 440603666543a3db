"""Volumes: NIfTI files and DICOM series, read with their place in the patient, on one grid, cut into slices, written.

Arrays are (I,J,K) as the file has its axes; an affine (4,4) takes voxel indices to millimetres to the patient's right,
front and head (RAS), as NIfTI has it. nibabel reads and writes NIfTI, pydicom DICOM (the extra `medical`), SciPy
interpolates.
"""
