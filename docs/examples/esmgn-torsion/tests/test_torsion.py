import torch
from esmgn_torsion.task import TorsionDenoising
from esmgn_torsion.twist import twisted
from torch import nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.testing import ExampleGraph, check_plugin, example_proteins


def dihedral(points):
    """Dihedral angles of four atoms [n, 4, 3], in radians."""
    first, axis, last = points.diff(dim=1).unbind(1)
    one, two = first.cross(axis, dim=1), axis.cross(last, dim=1)
    return torch.atan2(axis.norm(dim=1) * (first * two).sum(1), (one * two).sum(1))


def torsions(backbone):
    """Phi and psi of a chain [n, 4, 3], as [n, 2]; zero at its ends."""
    (nitrogen, alpha, carbon), end = (backbone[:, atom] for atom in range(3)), torch.zeros(1)
    phi = dihedral(torch.stack([carbon[:-1], nitrogen[1:], alpha[1:], carbon[1:]], 1))
    psi = dihedral(torch.stack([nitrogen[:-1], alpha[:-1], carbon[:-1], nitrogen[1:]], 1))
    return torch.stack([torch.cat([end, phi]), torch.cat([psi, end])], 1)


def helix():
    """A chain with the torsions of a helix."""
    single = [protein for protein in example_proteins() if len(protein.chains) == 1]
    batch = ProteinBatch.from_proteins([max(single, key=lambda one: int(one.atom_mask.all()) * len(one))])
    turn = torch.tensor([-1.0, -0.8]) - torsions(batch.backbone)
    return batch.replace(backbone=twisted(batch, turn))


def test_the_plugin_keeps_its_contracts():
    check_plugin("torsion")


def test_torsions_change_by_the_angles_and_bonds_do_not():
    batch = helix()
    angles = torch.randn(batch.num_residues, 2) * 0.5
    backbone = twisted(batch, angles)
    change = torsions(backbone) - torsions(batch.backbone) - angles
    change = (change[1:-1] + torch.pi) % (2 * torch.pi) - torch.pi
    assert change.abs().max() < 0.01
    bonds = [(atoms[1:, 0] - atoms[:-1, 2]).norm(dim=1) for atoms in (batch.backbone, backbone)]
    torch.testing.assert_close(*bonds, rtol=1e-3, atol=1e-3)


def test_the_noise_of_a_helix_is_learned():
    batch = helix()
    torch.manual_seed(0)
    task = TorsionDenoising(TorsionDenoising.Settings(), encoder_dim=16)
    encoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16))
    optimizer = torch.optim.Adam([*task.parameters(), *encoder.parameters()], lr=0.01)
    for step in range(200):
        views = task.views(batch, ExampleGraph(), SeededDraws(0, step, [0]))
        angles = torsions(views[0].batch.backbone)
        encoding = Encoding.from_residues(encoder(torch.cat([angles.sin(), angles.cos()], 1)), batch)
        loss = task.loss(views, [encoding]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
